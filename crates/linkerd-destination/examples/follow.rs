//! Prints what the destination service says of a target, as it comes:
//! `cargo run -p linkerd-destination --example follow -- http://127.0.0.1:8086 10.96.0.1:443`

use anyhow::Context as _;
use linkerd_proto::destination::{
    GetDestination, TlsIdentity, destination_client::DestinationClient, tls_identity::Strategy,
    update::Update,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: follow http://HOST:PORT TARGET";
    let (server, path) = (args.next().context(usage)?, args.next().context(usage)?);
    let mut client = DestinationClient::connect(server).await?;
    let request = GetDestination {
        scheme: "k8s".into(),
        path,
        context_token: String::new(),
    };

    let mut profiles = client.get_profile(request.clone()).await?.into_inner();
    println!("profile {:?}", profiles.message().await?);

    let mut updates = client.get(request).await?.into_inner();
    while let Some(update) = updates.message().await? {
        match update.update {
            Some(Update::Add(set)) => {
                println!("add {:?}", set.metric_labels);
                for addr in set.addrs {
                    let address = std::net::SocketAddr::try_from(addr.addr.unwrap_or_default())?;
                    let identity = addr.tls_identity.as_ref().and_then(identity_name);
                    println!(
                        "  {address} {} {:?}",
                        identity.unwrap_or("-"),
                        addr.metric_labels
                    );
                }
            }
            Some(Update::Remove(set)) => {
                println!("remove");
                for addr in set.addrs {
                    println!("  {}", std::net::SocketAddr::try_from(addr)?);
                }
            }
            Some(Update::NoEndpoints(none)) => println!("no endpoints, exists: {}", none.exists),
            None => println!("an empty update"),
        }
    }
    Ok(())
}

fn identity_name(identity: &TlsIdentity) -> Option<&str> {
    match identity.strategy.as_ref()? {
        Strategy::DnsLikeIdentity(name) => Some(&name.name),
        Strategy::UriLikeIdentity(uri) => Some(&uri.uri),
    }
}
