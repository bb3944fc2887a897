//! The gRPC service that counts votes. Entry: [`run`]; the counting itself is [`Tally`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    api::{
        ResultsRequest, ResultsResponse, VoteRequest, VoteResponse,
        votes_server::{Votes, VotesServer},
    },
    catalogue, process,
};

/// Counts votes (gRPC); votes for :doughnut: always fail.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:8080")]
    addr: SocketAddr,
}

/// The votes so far, in memory. It holds at most one entry for each emoji of the catalogue.
#[derive(Debug, Default)]
pub struct Tally {
    votes: BTreeMap<&'static str, u64>,
}

/// Why a vote was not counted.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody stands for election under this shortcode.
    Unknown,
    /// It is the one whose votes always fail.
    AlwaysFails,
}

impl Tally {
    /// Counts a vote and returns how many the emoji has now.
    ///
    /// # Errors
    /// [`Refused`] says why the vote was not counted.
    pub fn vote(&mut self, shortcode: &str) -> Result<u64, Refused> {
        if shortcode == catalogue::ALWAYS_FAILS {
            return Err(Refused::AlwaysFails);
        }
        let (known, _) = catalogue::EMOJI
            .into_iter()
            .find(|(known, _)| *known == shortcode)
            .ok_or(Refused::Unknown)?;
        let votes = self.votes.entry(known).or_default();
        *votes += 1;
        Ok(*votes)
    }

    /// Emoji with votes, the most first, then by name.
    pub fn results(&self) -> Vec<(&'static str, u64)> {
        let mut results: Vec<_> = self
            .votes
            .iter()
            .map(|(name, votes)| (*name, *votes))
            .collect();
        results.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        results
    }
}

/// The service without its listener; clones share the tally.
#[derive(Clone, Default)]
pub struct VotingService {
    tally: Arc<Mutex<Tally>>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the address cannot be bound, or the server fails.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args { addr } = args;
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot bind {addr}"))?;
    tracing::info!(%addr, "listening");
    serve(listener, shutdown).await
}

/// Serves on one listener until `shutdown`.
///
/// # Errors
/// When the server fails.
pub async fn serve(listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let routes = tonic::service::Routes::new(VotesServer::new(VotingService::default()));
    process::serve_grpc(listener, routes, shutdown).await
}

#[tonic::async_trait]
impl Votes for VotingService {
    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let VoteRequest { shortcode } = request.into_inner();
        let outcome = self
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .vote(&shortcode);
        match outcome {
            Ok(votes) => Ok(Response::new(VoteResponse { votes })),
            Err(Refused::AlwaysFails) => Err(Status::internal(format!(
                "votes for {shortcode} cannot be counted"
            ))),
            Err(Refused::Unknown) => Err(Status::not_found(format!(
                "there is no emoji {shortcode:?}"
            ))),
        }
    }

    async fn results(
        &self,
        _: Request<ResultsRequest>,
    ) -> Result<Response<ResultsResponse>, Status> {
        let results = self
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .results();
        let results = results
            .into_iter()
            .map(|(shortcode, votes)| crate::api::Result {
                shortcode: shortcode.to_owned(),
                votes,
            })
            .collect();
        Ok(Response::new(ResultsResponse { results }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_add_up() {
        let mut tally = Tally::default();
        assert_eq!(tally.vote(":tada:"), Ok(1));
        assert_eq!(tally.vote(":joy:"), Ok(1));
        assert_eq!(tally.vote(":tada:"), Ok(2));
        assert_eq!(tally.results(), [(":tada:", 2), (":joy:", 1)]);
    }

    #[test]
    fn refused_votes_are_not_counted() {
        let mut tally = Tally::default();
        assert_eq!(tally.vote(":doughnut:"), Err(Refused::AlwaysFails));
        assert_eq!(tally.vote("tada"), Err(Refused::Unknown));
        assert_eq!(tally.vote(""), Err(Refused::Unknown));
        assert_eq!(tally.results(), []);
    }
}
