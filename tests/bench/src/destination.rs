//! A destination service that knows one pod: whatever address is asked for, its endpoint is that
//! pod, at the same port, with that identity.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use anyhow::Result;
use linkerd_names::Identity;
use linkerd_proto::destination::destination_server::{Destination, DestinationServer};
use linkerd_proto::destination::tls_identity::{DnsLikeIdentity, Strategy};
use linkerd_proto::destination::{
    DestinationProfile, GetDestination, TlsIdentity, Update, WeightedAddr, WeightedAddrSet, update,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

/// The share of an endpoint that is like all others.
const WEIGHT: u32 = 10_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen
    listen: SocketAddr,
    /// The pod's address
    #[arg(long)]
    pod: IpAddr,
    /// The pod's identity
    #[arg(long, value_parser = |text: &str| text.parse::<Identity>().map_err(|error| error.to_string()))]
    identity: Identity,
}

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct OnePod {
    pod: IpAddr,
    identity: Identity,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let Args {
        listen,
        pod,
        identity,
    } = args;
    tonic::transport::Server::builder()
        .add_service(DestinationServer::new(OnePod { pod, identity }))
        .serve(listen)
        .await?;
    Ok(())
}

#[tonic::async_trait]
impl Destination for OnePod {
    type GetStream = Updates<Update>;
    type GetProfileStream = Updates<DestinationProfile>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let path = request.into_inner().path;
        let port = path
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok())
            .ok_or_else(|| Status::invalid_argument("a path ends with a port"))?;
        let strategy = Strategy::DnsLikeIdentity(DnsLikeIdentity {
            name: self.identity.to_string(),
        });
        let endpoint = WeightedAddr {
            addr: Some(SocketAddr::from((self.pod, port)).into()),
            weight: WEIGHT,
            metric_labels: [("pod".to_owned(), "server".to_owned())].into(),
            tls_identity: Some(TlsIdentity {
                strategy: Some(strategy),
                ..Default::default()
            }),
            ..Default::default()
        };
        let update = Update {
            update: Some(update::Update::Add(WeightedAddrSet {
                addrs: vec![endpoint],
                ..Default::default()
            })),
        };
        // Nothing ever changes: the stream stays open and silent.
        let updates = tokio_stream::once(Ok(update)).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(updates)))
    }

    async fn get_profile(
        &self,
        _request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("there are no profiles"))
    }
}
