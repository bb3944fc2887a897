//! The service `io.linkerd.proxy.outbound.OutboundPolicies`: what a proxy of Linkerd asks before
//! each new target. What it is told says `outbound_policy.rs`.

use std::net::SocketAddr;

use linkerd_proto::outbound::{
    OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies, traffic_spec,
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    destination::DestinationService,
    follow::{Follower, MessageStream, messages},
    outbound_policy::policy,
    target::{InvalidTarget, Target},
};

#[tonic::async_trait]
impl OutboundPolicies for DestinationService {
    type WatchStream = MessageStream<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let (_, _, policy) = self.first_policy("get_outbound", request).await?;
        Ok(Response::new(policy))
    }

    async fn watch(
        &self,
        request: Request<TrafficSpec>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (follower, target, _) = self.first_policy("watch_outbound", request).await?;
        let cluster_domain = self.cluster_domain.clone();
        Ok(Response::new(messages(follower, move |sent, now| {
            let policy = |state| policy(&target, state, &cluster_domain);
            let now = policy(now);
            // A name that is nothing any more keeps its policy: `Destination/Get` says what has become of it.
            now.filter(|now| sent.and_then(policy).as_ref() != Some(now))
                .into_iter()
                .collect()
        })))
    }
}

impl DestinationService {
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no target; `NOT_FOUND` for one that is nothing in the cluster:
    /// the proxy then connects to where its application wanted to go; and those of [`Self::follow`].
    async fn first_policy(
        &self,
        method: &'static str,
        request: Request<TrafficSpec>,
    ) -> Result<(Follower, Target, OutboundPolicy), Status> {
        let peer = request.remote_addr();
        let target = target(request.into_inner(), &self.cluster_domain)
            .inspect_err(|status| debug!(?peer, method, %status, "refused a target"))?;
        debug!(?peer, method, ?target, "asked");
        let mut follower = self.follow(method, target.clone())?;
        let endpoints = follower.first().await?;
        let policy = Some(&*endpoints)
            .filter(|endpoints| endpoints.exists())
            .and_then(|endpoints| policy(&target, endpoints, &self.cluster_domain))
            .ok_or_else(|| Status::not_found("nothing in the cluster"))?;
        Ok((follower, target, policy))
    }
}

fn target(spec: TrafficSpec, cluster_domain: &str) -> Result<Target, Status> {
    // Who asks makes no difference to the answer.
    let TrafficSpec {
        source_workload: _,
        target,
    } = spec;
    match target {
        None => Err(Status::invalid_argument("the target is missing")),
        Some(traffic_spec::Target::Addr(address)) => {
            let address = SocketAddr::try_from(address)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            if address.port() == 0 {
                return Err(Status::invalid_argument("the port is 0"));
            }
            let ip = address.ip().to_canonical();
            Ok(Target::Address(SocketAddr::new(ip, address.port())))
        }
        Some(traffic_spec::Target::Authority(authority)) => {
            Target::parse("", &authority, cluster_domain).map_err(|error| match error {
                InvalidTarget::OffCluster { .. } => Status::not_found(error.to_string()),
                _ => Status::invalid_argument(error.to_string()),
            })
        }
    }
}
