//! The service `io.linkerd.proxy.inbound.InboundServerPolicies`: what a proxy of Linkerd asks for
//! each port of its pod. What it is told says `inbound_policy.rs`.

use linkerd_proto::inbound::{
    PortSpec, Server, inbound_server_policies_server::InboundServerPolicies,
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    destination::DestinationService,
    follow::{Follower, MessageStream, messages},
    inbound_policy::server,
    target::Target,
    workload,
};

#[tonic::async_trait]
impl InboundServerPolicies for DestinationService {
    type WatchPortStream = MessageStream<Server>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let (_, server) = self.first_server("get_inbound", request).await?;
        Ok(Response::new(server))
    }

    async fn watch_port(
        &self,
        request: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        let (follower, _) = self.first_server("watch_inbound", request).await?;
        Ok(Response::new(messages(follower, |sent, now| {
            // A pod that has gone keeps its policy until its proxy has ended too.
            server(now)
                .filter(|now| sent.and_then(server).as_ref() != Some(now))
                .into_iter()
                .collect()
        })))
    }
}

impl DestinationService {
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no pod or no port; `NOT_FOUND` for a pod that is not known, which
    /// may be because it is too new: the proxy goes by its own default and asks again; and those of
    /// [`Self::follow`].
    async fn first_server(
        &self,
        method: &'static str,
        request: Request<PortSpec>,
    ) -> Result<(Follower, Server), Status> {
        let peer = request.remote_addr();
        let target = target(request.into_inner())
            .inspect_err(|status| debug!(?peer, method, %status, "refused a port"))?;
        debug!(?peer, method, ?target, "asked");
        let mut follower = self.follow(method, target)?;
        let server = server(&*follower.first().await?)
            .ok_or_else(|| Status::not_found("there is no such pod"))?;
        Ok((follower, server))
    }
}

fn target(spec: PortSpec) -> Result<Target, Status> {
    let PortSpec { workload, port } = spec;
    let pod = workload::parse(&workload)
        .ok_or_else(|| Status::invalid_argument(format!("not a pod: {workload:?}")))?;
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(Target::Pod { pod, port }),
        _ => Err(Status::invalid_argument(format!("not a port: {port}"))),
    }
}
