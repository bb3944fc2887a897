//! The gRPC service. Entry: [`ApiService`]. Turns errors into gRPC's codes, and decides nothing.

use std::sync::Arc;

use kube::Client;
use linkerd_proto::public::{
    EdgesRequest, EdgesResponse, Empty, ListPodsRequest, ListPodsResponse, ResourceError,
    SelfCheckRequest, SelfCheckResponse, StatSummaryRequest, StatSummaryResponse,
    TapByResourceRequest, VersionInfo,
    api_server::Api,
    stat_summary_response::{Ok as StatOk, Response as StatResponse},
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    cluster::Cluster,
    edges::{self, EdgesError},
    label_selector,
    list_pods::list_pods,
    metrics::Metrics,
    questions::Questions,
    self_check::self_check,
    serve::Tapped,
    stat_request::{InvalidRequest, StatRequest},
    stat_summary::{StatError, stat_summary},
    tap::{self, Taps, Updates},
};

/// What answers need to be made of.
#[derive(Clone)]
pub struct ApiService {
    /// The cluster as it is now.
    pub cluster: Arc<Cluster>,
    /// Where the proxies' metrics are asked for.
    pub metrics: Metrics,
    /// Client of the Kubernetes API.
    pub kubernetes: Client,
    /// Namespace of this control plane.
    pub control_plane_namespace: String,
    /// The taps under way.
    pub taps: Arc<Taps>,
    /// The questions about figures under way.
    pub questions: Arc<Questions>,
}

#[tonic::async_trait]
impl Api for ApiService {
    type TapByResourceStream = Updates;

    async fn tap_by_resource(
        &self,
        request: Request<TapByResourceRequest>,
    ) -> Result<Response<Updates>, Status> {
        let Self {
            cluster,
            metrics: _,
            kubernetes,
            control_plane_namespace,
            taps,
            questions: _,
        } = self;
        let tapped = request.extensions().get::<Tapped>().cloned();
        let request = request.into_inner();
        let updates = tap::tap(taps, cluster, kubernetes, control_plane_namespace, request);
        let updates = updates.await?;
        if let Some(tapped) = tapped {
            tapped.set();
        }
        Ok(Response::new(updates))
    }

    async fn stat_summary(
        &self,
        request: Request<StatSummaryRequest>,
    ) -> Result<Response<StatSummaryResponse>, Status> {
        let request = request.into_inner();
        let answer = |response| {
            Ok(Response::new(StatSummaryResponse {
                response: Some(response),
            }))
        };
        let parsed = match StatRequest::parse(&request) {
            Ok(parsed) => parsed,
            Err(InvalidRequest::Argument(message)) => {
                return Err(Status::invalid_argument(message));
            }
            Err(InvalidRequest::Resource(error)) => {
                let resource = request.selector.and_then(|selection| selection.resource);
                return answer(StatResponse::Error(ResourceError {
                    resource,
                    error: error.to_owned(),
                }));
            }
        };
        debug!(request = ?parsed, "stat");
        let Self {
            cluster,
            metrics,
            kubernetes: _,
            control_plane_namespace,
            taps: _,
            questions,
        } = self;
        let _turn = questions.turn().await?;
        match stat_summary(cluster, metrics, control_plane_namespace, &parsed).await {
            Ok(stat_tables) => answer(StatResponse::Ok(StatOk { stat_tables })),
            Err(error) => Err(error.into()),
        }
    }

    async fn list_pods(
        &self,
        request: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        let ListPodsRequest {
            namespace,
            label_selector,
        } = request.into_inner();
        let wanted = label_selector::parse(&label_selector)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let _turn = self.questions.turn().await?;
        Ok(Response::new(
            list_pods(&self.cluster, &self.metrics, &namespace, &wanted).await,
        ))
    }

    async fn edges(
        &self,
        request: Request<EdgesRequest>,
    ) -> Result<Response<EdgesResponse>, Status> {
        let Self {
            cluster,
            metrics,
            kubernetes: _,
            control_plane_namespace,
            taps: _,
            questions,
        } = self;
        let _turn = questions.turn().await?;
        let request = request.into_inner();
        match edges::edges(cluster, metrics, control_plane_namespace, request).await {
            Ok(edges) => Ok(Response::new(EdgesResponse { edges })),
            Err(EdgesError::Request(text)) => Err(Status::invalid_argument(text)),
            Err(EdgesError::NotFound(error)) => Err(Status::not_found(error.to_string())),
            Err(EdgesError::Metrics(error)) => Err(error.into()),
        }
    }

    async fn version(&self, _: Request<Empty>) -> Result<Response<VersionInfo>, Status> {
        Ok(Response::new(VersionInfo {
            go_version: String::new(),
            build_date: String::new(),
            release_version: linkerd_names::VERSION.to_owned(),
        }))
    }

    async fn self_check(
        &self,
        _: Request<SelfCheckRequest>,
    ) -> Result<Response<SelfCheckResponse>, Status> {
        let _turn = self.questions.turn().await?;
        let results = self_check(&self.kubernetes, &self.metrics).await;
        Ok(Response::new(SelfCheckResponse { results }))
    }
}

impl From<StatError> for Status {
    fn from(error: StatError) -> Self {
        match error {
            StatError::NotFound(error) => Self::not_found(error.to_string()),
            StatError::Metrics(error) => error.into(),
        }
    }
}
