//! The HTML pages. Pure: emoji and votes in, text out.

use crate::api::Emoji;

/// The page to vote on.
pub fn ballot(emoji: &[Emoji]) -> String {
    let buttons: String = emoji
        .iter()
        .map(|Emoji { shortcode, unicode }| {
            format!(
                "<button title=\"{0}\" data-choice=\"{0}\">{1}</button>\n",
                escape(shortcode),
                escape(unicode)
            )
        })
        .collect();
    layout(
        "Emoji vote",
        &format!(
            "<h1>Emoji vote</h1>\n<p id=\"said\">Pick your favourite. See the \
             <a href=\"/leaderboard\">leaderboard</a>.</p>\n<main>\n{buttons}</main>\n{SCRIPT}"
        ),
    )
}

/// The page with the votes, the most first.
pub fn leaderboard(rows: &[(String, String, u64)]) -> String {
    let most = rows
        .iter()
        .map(|(_, _, votes)| *votes)
        .max()
        .unwrap_or(0)
        .max(1);
    let lines: String = rows
        .iter()
        .map(|(shortcode, unicode, votes)| {
            format!(
                "<tr><td title=\"{}\">{}</td><td><meter max=\"{most}\" value=\"{votes}\"></meter>\
                 </td><td>{votes}</td></tr>\n",
                escape(shortcode),
                escape(unicode)
            )
        })
        .collect();
    let votes = if rows.is_empty() {
        "<p>No votes yet.</p>"
    } else {
        ""
    };
    layout(
        "Leaderboard",
        &format!(
            "<h1>Leaderboard</h1>\n<p><a href=\"/\">Vote</a> again.</p>\n{votes}<table>\n{lines}\
             </table>"
        ),
    )
}

const SCRIPT: &str = r#"<script>
document.querySelector("main").addEventListener("click", async ({ target }) => {
  const choice = target.dataset.choice;
  if (!choice) return;
  const answer = await fetch("/api/vote?choice=" + encodeURIComponent(choice));
  document.getElementById("said").textContent = answer.ok
    ? `Your vote for ${target.textContent} counts.`
    : `The vote for ${target.textContent} failed (${answer.status}).`;
});
</script>"#;

const STYLE: &str = "body{font:16px system-ui,sans-serif;max-width:44rem;margin:2rem auto;\
padding:0 1rem;color:#1b2430;background:#f7f8fa}main{display:grid;gap:.5rem;\
grid-template-columns:repeat(auto-fill,minmax(4rem,1fr))}button{font-size:2rem;padding:.4rem;\
border:1px solid #d5dae1;border-radius:.6rem;background:#fff;cursor:pointer}\
button:hover{border-color:#2b6cb0}table{border-spacing:.5rem}td{font-size:1.3rem}";

fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n\
         </html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_answer_is_escaped() {
        let emoji = [Emoji {
            shortcode: "\"><script>".into(),
            unicode: "<b>".into(),
        }];
        let page = ballot(&emoji);
        assert!(page.contains("&quot;&gt;&lt;script&gt;") && !page.contains("<b>"));
        let page = leaderboard(&[("<i>".into(), "<b>".into(), 1)]);
        assert!(!page.contains("<i>") && !page.contains("<b>"));
    }

    #[test]
    fn an_empty_leaderboard_says_so() {
        assert!(leaderboard(&[]).contains("No votes yet."));
    }
}
