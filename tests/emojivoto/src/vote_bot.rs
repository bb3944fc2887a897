//! A visitor who never tires: lists the emoji and votes for one, round after round. Entry: [`run`].

use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    catalogue,
    http_client::{Connections, HttpClient},
};

/// Bound on one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Of each 20 votes 3 are for the emoji that always fails: 85 % succeed, in any window of a minute.
const FAILING_VOTES: u64 = 3;
const VOTES_OF_A_CYCLE: u64 = 20;

/// Lists the emoji and votes for one, again and again (HTTP).
#[derive(clap::Args)]
pub struct Args {
    /// host:port of the web front end
    #[arg(long, env = "WEB_HOST", default_value = "web-svc.emojivoto:80")]
    web_host: String,
    /// Milliseconds from one round to the next
    #[arg(long, env = "ROUND_MS", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    round_ms: u64,
}

/// Votes until `shutdown`; failures are logged, and the next round comes all the same.
///
/// # Errors
/// When the host is not `host:port`.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args { web_host, round_ms } = args;
    let client = HttpClient::new(REQUEST_TIMEOUT, Connections::Kept);
    let mut rounds = tokio::time::interval(Duration::from_millis(round_ms));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let list = uri(&web_host, "/api/list")?;
    tracing::info!(web_host, "voting");
    for round in 0.. {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = rounds.tick() => {}
        }
        if let Err(error) = vote(&client, &web_host, &list, round).await {
            tracing::warn!("round {round}: {error:#}");
        }
    }
    Ok(())
}

/// One round: list, choose, vote.
async fn vote(client: &HttpClient, web_host: &str, list: &Uri, round: u64) -> anyhow::Result<()> {
    let (status, body) = client.get(list, &[]).await?;
    anyhow::ensure!(status.is_success(), "{list} answers {status}");
    let emoji: serde_json::Value = serde_json::from_slice(&body).context("the list is no JSON")?;
    let shortcodes: Vec<_> = emoji
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|emoji| emoji["shortcode"].as_str())
        .collect();
    let choice = choose(&shortcodes, round, rand::random()).context("the list is empty")?;
    let (status, _) = client
        .get(&uri(web_host, &format!("/api/vote?choice={choice}"))?, &[])
        .await?;
    tracing::debug!(choice, %status, "voted");
    Ok(())
}

/// The emoji to vote for: every so often the one that fails, otherwise any other.
fn choose<'a>(shortcodes: &[&'a str], round: u64, random: u32) -> Option<&'a str> {
    let failing = round * FAILING_VOTES % VOTES_OF_A_CYCLE < FAILING_VOTES;
    let candidates: Vec<_> = shortcodes
        .iter()
        .copied()
        .filter(|shortcode| (*shortcode == catalogue::ALWAYS_FAILS) == failing)
        .collect();
    let index = usize::try_from(random)
        .ok()?
        .checked_rem(candidates.len())?;
    candidates.get(index).copied()
}

fn uri(web_host: &str, path: &str) -> anyhow::Result<Uri> {
    format!("http://{web_host}{path}")
        .parse()
        .with_context(|| format!("{web_host:?} is not host:port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_twenty_votes_in_a_row_three_are_for_the_emoji_that_fails() {
        let listed = [":joy:", ":doughnut:", ":tada:"];
        for start in 0..40 {
            let failing = (start..start + VOTES_OF_A_CYCLE)
                .filter(|round| choose(&listed, *round, 7) == Some(":doughnut:"))
                .count();
            assert_eq!(failing, 3);
        }
    }

    #[test]
    fn nothing_is_chosen_from_an_empty_list() {
        assert_eq!(choose(&[], 0, 1), None);
        assert_eq!(choose(&[":doughnut:"], 1, 1), None);
    }
}
