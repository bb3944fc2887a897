//! A `linkerd-api` that knows its answers by heart. Entry: [`serve`].

use std::net::TcpListener;

use futures::stream;
use linkerd_proto::{
    public::{
        CheckResult, CheckStatus, EdgesRequest, EdgesResponse, Empty, ListPodsRequest,
        ListPodsResponse, Pod, Resource, ResourceSelection, SelfCheckRequest, SelfCheckResponse,
        StatSummaryRequest, StatSummaryResponse, TapByResourceRequest, TapByResourceResponse,
        VersionInfo,
        api_server::{Api, ApiServer},
        edges_response::Edge,
        tap_by_resource_response,
    },
    tap::TapEvent,
};
use tonic::{Request, Response, Status};

use crate::kubernetes::{CLOSED, Cluster, Figures};

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
        figures: cluster.figures,
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
    figures: Figures,
}

impl ControlPlane {
    /// The answer to a question about what is in `namespace`.
    fn figures<T>(&self, namespace: &str) -> Result<Response<T>, Status> {
        Err(match self.figures {
            Figures::Namespace => Status::not_found(format!("namespace {namespace:?}")),
            _ => Status::unimplemented(""),
        })
    }
}

fn namespace(selection: Option<ResourceSelection>) -> String {
    let resource = selection.and_then(|it| it.resource);
    resource.expect("a selection is of a resource").namespace
}

#[tonic::async_trait]
impl Api for ControlPlane {
    type TapByResourceStream = stream::Repeat<Result<TapByResourceResponse, Status>>;

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
        request: Request<StatSummaryRequest>,
    ) -> Result<Response<StatSummaryResponse>, Status> {
        self.figures(&namespace(request.into_inner().selector))
    }

    async fn list_pods(
        &self,
        request: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        let ListPodsRequest {
            namespace,
            label_selector,
        } = request.into_inner();
        let selected = match self.figures {
            Figures::Pods => true,
            Figures::PodsOfEarlier => false,
            _ => return self.figures(&namespace),
        };
        let pod = |name: &str, control_plane: &str| Pod {
            name: name.to_owned(),
            status: "Running".to_owned(),
            controller_namespace: control_plane.to_owned(),
            ..Pod::default()
        };
        let all = [
            ("app=db", pod("shop/db-0", "")),
            ("app=web", pod("shop/web-1", "linkerd")),
        ];
        let chosen = all.into_iter().filter(|(label, _)| {
            !selected || label_selector.is_empty() || label_selector == *label
        });
        Ok(Response::new(ListPodsResponse {
            pods: chosen.map(|(_, pod)| pod).collect(),
            selected,
            ..ListPodsResponse::default()
        }))
    }

    async fn tap_by_resource(
        &self,
        request: Request<TapByResourceRequest>,
    ) -> Result<Response<Self::TapByResourceStream>, Status> {
        if matches!(self.figures, Figures::Events) {
            let event = tap_by_resource_response::Response::Event(TapEvent::default());
            return Ok(Response::new(stream::repeat(Ok(TapByResourceResponse {
                response: Some(event),
            }))));
        }
        self.figures(&namespace(request.into_inner().target))
    }

    async fn edges(
        &self,
        request: Request<EdgesRequest>,
    ) -> Result<Response<EdgesResponse>, Status> {
        let Figures::Edges(count) = self.figures else {
            return self.figures(&namespace(request.into_inner().selector));
        };
        let pod = |name: String| {
            Some(Resource {
                namespace: "shop".to_owned(),
                r#type: "pod".to_owned(),
                name,
            })
        };
        let identity = "web.deployment.shop.linkerd-managed.linkerd.svc.cluster.local";
        let edges = (0..count).map(|index| Edge {
            src: pod(format!("web-6f7d8c9b5-{index:05}")),
            dst: pod(format!("db-5d4c3b2a1-{index:05}")),
            client_id: identity.to_owned(),
            server_id: identity.replace("web", "db"),
            tls: "true".to_owned(),
            responses: 1_000_000,
            ..Edge::default()
        });
        Ok(Response::new(EdgesResponse {
            edges: edges.collect(),
        }))
    }
}
