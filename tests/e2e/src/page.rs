//! A page of the documentation, as somebody who types what it says. Entry: [`commands`].

/// The lines of all blocks of shell, without comments.
pub fn commands(page: &str) -> Vec<String> {
    let (mut commands, mut unfinished) = (Vec::new(), String::new());
    let mut fence = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (None, Some("sh")) => {
                let line = line.split(" #").next().unwrap_or_default().trim();
                match line.strip_suffix('\\') {
                    Some(begin) => unfinished += begin,
                    None => commands.push(std::mem::take(&mut unfinished) + line),
                }
            }
            (None, _) => {}
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_lines_of_blocks_of_shell() {
        let page = "`no`\n```sh\none -a    # why\ntwo \\\n  | three\n```\n```\nfour\n```\n\n    five\n```sh\nsix\n```\n";
        assert_eq!(commands(page), ["one -a", "two | three", "six"]);
    }
}
