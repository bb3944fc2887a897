//! A `linkerd-api` that knows its answers by heart. Entry: [`serve`].

use std::net::TcpListener;

use linkerd_proto::public::{
    CheckResult, CheckStatus, EdgesRequest, EdgesResponse, Empty, ListPodsRequest,
    ListPodsResponse, SelfCheckRequest, SelfCheckResponse, StatSummaryRequest, StatSummaryResponse,
    TapByResourceRequest, TapByResourceResponse, VersionInfo,
    api_server::{Api, ApiServer},
};
use tonic::{Request, Response, Status};

use crate::kubernetes::{CLOSED, Cluster};

/// Starts the one of `cluster` and returns its address; one where nobody is when it shall not answer.
pub(crate) fn serve(cluster: &Cluster) -> String {
    let Some(results) = cluster.self_check.clone() else {
        return CLOSED.to_owned();
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let answers = ControlPlane {
        results,
        problem: cluster.api_problem,
        version: cluster.version.clone(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_service(ApiServer::new(answers));
            server
                .serve_with_incoming(incoming)
                .await
                .expect("it serves");
        });
    });
    address
}

/// What `linkerd-api` answers.
struct ControlPlane {
    results: Vec<(&'static str, Result<(), &'static str>)>,
    problem: Option<&'static str>,
    version: String,
}

/// Only what `check` and `version` ask is answered.
fn unasked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl Api for ControlPlane {
    type TapByResourceStream = futures::stream::Empty<Result<TapByResourceResponse, Status>>;

    async fn version(&self, _: Request<Empty>) -> Result<Response<VersionInfo>, Status> {
        Ok(Response::new(VersionInfo {
            release_version: self.version.clone(),
            ..VersionInfo::default()
        }))
    }

    async fn self_check(
        &self,
        _: Request<SelfCheckRequest>,
    ) -> Result<Response<SelfCheckResponse>, Status> {
        if let Some(problem) = self.problem {
            return Err(Status::unavailable(problem));
        }
        let results = self.results.iter().map(|(subsystem, outcome)| CheckResult {
            subsystem_name: (*subsystem).to_owned(),
            check_description: format!("control plane can talk to {subsystem}"),
            status: match outcome {
                Ok(()) => CheckStatus::Ok.into(),
                Err(_) => CheckStatus::Error.into(),
            },
            friendly_message_to_user: outcome.err().unwrap_or_default().to_owned(),
        });
        Ok(Response::new(SelfCheckResponse {
            results: results.collect(),
        }))
    }

    async fn stat_summary(
        &self,
        _: Request<StatSummaryRequest>,
    ) -> Result<Response<StatSummaryResponse>, Status> {
        unasked()
    }

    async fn list_pods(
        &self,
        _: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        unasked()
    }

    async fn tap_by_resource(
        &self,
        _: Request<TapByResourceRequest>,
    ) -> Result<Response<Self::TapByResourceStream>, Status> {
        unasked()
    }

    async fn edges(&self, _: Request<EdgesRequest>) -> Result<Response<EdgesResponse>, Status> {
        unasked()
    }
}
