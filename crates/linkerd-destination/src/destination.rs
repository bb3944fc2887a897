//! The service `io.linkerd.proxy.destination.Destination`. Entry: [`DestinationService`], which
//! also answers for the policies: see `outbound_policies.rs` and `inbound_policies.rs`.

use linkerd_proto::destination::{
    DestinationProfile, GetDestination, Update, destination_server::Destination,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    follow::{MessageStream, messages},
    index::Index,
    metrics::Metrics,
    profile::profile,
    streams::Streams,
    target::Target,
    update::diff,
};

/// Answers proxies from an [`Index`].
#[derive(Clone, Debug)]
pub struct DestinationService {
    /// Where the answers come from.
    pub index: Index,
    /// Zone of the cluster.
    pub cluster_domain: String,
    /// Where streams and messages are counted.
    pub metrics: Metrics,
    /// How many streams may be open.
    pub streams: Streams,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Destination for DestinationService {
    type GetStream = MessageStream<Update>;
    type GetProfileStream = MessageStream<DestinationProfile>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let target = self.target("get", &request)?;
        Ok(Response::new(messages(self.follow("get", target)?, diff)))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let target = self.target("get_profile", &request)?;
        let cluster_domain = self.cluster_domain.clone();
        let follower = self.follow("get_profile", target.clone())?;
        Ok(Response::new(messages(follower, move |sent, now| {
            let now = profile(&target, now, &cluster_domain);
            let same = sent.is_some_and(|sent| profile(&target, sent, &cluster_domain) == now);
            if same { Vec::new() } else { vec![now] }
        })))
    }
}

impl DestinationService {
    /// # Errors
    /// `INVALID_ARGUMENT` when the target is malformed: asking again is of no use.
    fn target(
        &self,
        method: &'static str,
        request: &Request<GetDestination>,
    ) -> Result<Target, Status> {
        let GetDestination {
            scheme,
            path,
            context_token: _,
        } = request.get_ref();
        let peer = request.remote_addr();
        let target = Target::parse(scheme, path, &self.cluster_domain).map_err(|error| {
            debug!(?peer, method, %error, "refused a target");
            Status::invalid_argument(error.to_string())
        })?;
        debug!(?peer, method, path, "stream begins");
        Ok(target)
    }
}
