//! Screens of terminals that are wide, usual and narrow, with some traffic, and what keys make of them.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use expect_test::{Expect, expect};
use linkerd_proto::tap::{eos, tap_event::ProxyDirection};
use ratatui::{Terminal, backend::TestBackend};

use super::{
    super::{
        samples::{self, EMOJI, NOBODY, PLAINTEXT, Sample, WEB},
        view::After,
    },
    *,
};

struct Top {
    terminal: Terminal<TestBackend>,
    surroundings: Surroundings,
    view: View,
    figures: Figures,
}

impl Top {
    fn new(width: u16, height: u16) -> Self {
        let terminal = Terminal::new(TestBackend::new(width, height));
        Self {
            terminal: terminal.expect("in memory"),
            surroundings: Surroundings {
                title: "deploy/web -n emojivoto".into(),
                colors: Colors::Yes,
                trouble: None,
            },
            view: View::new(false),
            figures: samples::figures(),
        }
    }

    /// A web server's requests: of a meshed bot, of somebody who is not, and its own.
    fn with_traffic(width: u16, height: u16) -> Self {
        let mut top = Self::new(width, height);
        let millis = Duration::from_millis;
        let own = Sample {
            direction: ProxyDirection::Outbound,
            source: WEB,
            destination: EMOJI,
            path: "/emojivoto.v1.EmojiService/FindByShortcode",
            latency: millis(2),
            end: Some(eos::End::GrpcStatusCode(0)),
            ..Sample::default()
        };
        let requests = [
            (Sample::default(), 5),
            (
                Sample {
                    status: 500,
                    latency: millis(1234),
                    ..Sample::default()
                },
                1,
            ),
            (
                Sample {
                    source: NOBODY,
                    path: "/api/list",
                    tls: PLAINTEXT,
                    latency: Duration::from_micros(870),
                    ..Sample::default()
                },
                3,
            ),
            (own, 4),
        ];
        let mut stream = 0;
        for (sample, count) in requests {
            for _ in 0..count {
                stream += 1;
                sample.add_to(&mut top.figures, stream);
            }
        }
        top
    }

    fn press(&mut self, keys: &[KeyCode]) -> After {
        let mut after = After::Continue;
        for key in keys {
            let event = KeyEvent::new(*key, KeyModifiers::NONE);
            after = self.view.key(event, &self.figures);
            if after == After::Clear {
                self.figures.clear();
            }
            self.draw();
        }
        after
    }

    fn draw(&mut self) {
        let Self {
            terminal,
            surroundings,
            view,
            figures,
        } = self;
        terminal
            .draw(|frame| draw(frame, surroundings, view, figures))
            .expect("in memory");
    }

    /// The screen as text; blanks at the ends of lines are left out.
    fn text(&mut self) -> String {
        self.draw();
        let buffer = self.terminal.backend().buffer();
        let area = buffer.area;
        let mut text = String::new();
        for y in 0..area.height {
            let cells = (0..area.width).map(|x| buffer[(x, y)].symbol());
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        text
    }

    /// The first words of the rows.
    fn column(&mut self, index: usize) -> Vec<String> {
        let text = self.text();
        let rows = text.lines().skip(2).take_while(|line| !line.is_empty());
        rows.filter_map(|row| row.split_whitespace().nth(index))
            .map(str::to_owned)
            .collect()
    }

    fn expect(&mut self, expected: &Expect) {
        expected.assert_eq(&self.text());
    }
}

#[test]
fn at_120_columns_everything_is_written_out() {
    Top::with_traffic(120, 9).expect(&expect![[r#"
        deploy/web -n emojivoto                                                                            13 requests, by COUNT
        SOURCE    DESTINATION   METHOD   PATH                 COUNT▼    BEST   WORST    LAST   SUCCESS_RATE  TLS
        vote-bot  web           GET      /api/vote                 6     3ms    1.2s    1.2s         83.33%  √
        web       emoji         GET      /emoji…dByShortcode       4     2ms     2ms     2ms        100.00%  √
        10.0.0.1  web           GET      /api/list                 3   870µs   870µs   870µs        100.00%  peer_sent_plaintext



        q quit   ? help   p pause   ←→ sort by   r reverse   s sources   c clear
    "#]]);
}

#[test]
fn at_80_columns_words_are_shorter_and_figures_whole() {
    Top::with_traffic(80, 9).expect(&expect![[r#"
        deploy/web -n emojivoto                                    13 requests, by COUNT
        SOURCE   DEST  MET… PATH       COUNT▼   BEST  WORST   LAST  SUCCESS TLS
        vote-bot web   GET  /api/vote       6    3ms   1.2s   1.2s   83.33% √
        web      emoji GET  /em…rtcode      4    2ms    2ms    2ms  100.00% √
        10.0.0.1 web   GET  /api/list       3  870µs  870µs  870µs  100.00% peer_sent_p…



        q quit   ? help   p pause   ←→ sort by   r reverse   s sources   c clear
    "#]]);
}

#[test]
fn at_60_columns_sources_give_way() {
    Top::with_traffic(60, 9).expect(&expect![[r#"
        deploy/web -n emojivoto                13 requests, by COUNT
        PATH       COUNT▼   BEST  WORST   LAST  SUCCESS TLS
        /api/vote       6    3ms   1.2s   1.2s   83.33% √
        /em…rtcode      4    2ms    2ms    2ms  100.00% √
        /api/list       3  870µs  870µs  870µs  100.00% peer_sent_p…



        q quit   ? help   p pause   ←→ sort by   r reverse
    "#]]);
}

#[test]
fn at_40_columns_there_is_what_was_asked_for_how_often_how_well_and_whether_encrypted() {
    Top::with_traffic(40, 9).expect(&expect![[r#"
        deploy/web -n emo  13 requests, by COUNT
        PATH        COUNT▼  SUCCESS TLS
        /api/vote        6   83.33% √
        /emo…rtcode      4  100.00% √
        /api/list        3  100.00% peer_sent_p…



        q quit   ? help   p pause   ←→ sort by
    "#]]);
}

#[test]
fn before_the_first_request_it_says_what_it_waits_for() {
    Top::new(80, 5).expect(&expect![[r#"
        deploy/web -n emojivoto                                     0 requests, by COUNT
        SOURCE  DEST  METHOD  PATH  COUNT▼   BEST  WORST   LAST  SUCCESS TLS
        Waiting for requests and connections to end …

        q quit   ? help   p pause   ←→ sort by   r reverse   s sources   c clear
    "#]]);
}

#[test]
fn a_pod_that_cannot_be_watched_is_told_above_the_keys() {
    let mut top = Top::with_traffic(80, 8);
    top.surroundings.trouble = Some("pod emojivoto/web-2: its proxy refuses".into());
    top.expect(&expect![[r#"
        deploy/web -n emojivoto                                    13 requests, by COUNT
        SOURCE   DEST  MET… PATH       COUNT▼   BEST  WORST   LAST  SUCCESS TLS
        vote-bot web   GET  /api/vote       6    3ms   1.2s   1.2s   83.33% √
        web      emoji GET  /em…rtcode      4    2ms    2ms    2ms  100.00% √
        10.0.0.1 web   GET  /api/list       3  870µs  870µs  870µs  100.00% peer_sent_p…

        pod emojivoto/web-2: its proxy refuses
        q quit   ? help   p pause   ←→ sort by   r reverse   s sources   c clear
    "#]]);
}

#[test]
fn the_help_names_every_key() {
    let mut top = Top::with_traffic(80, 18);
    top.press(&[KeyCode::Char('?')]);
    top.expect(&expect![[r#"
        deploy/web -n emojivoto                                    13 requests, by COUNT
        SOURCE   DE┌ any key closes ────────────────────────────────────────┐LS
        vote-bot we│ q, Ctrl-C       quit                                   │
        web      em│ p, space        pause, and go on                       │
        10.0.0.1 we│ 1 … 9, 0        sort by that column; again: reverse    │eer_sent_p…
                   │ ← →             sort by the next column                │
                   │ r               reverse the order                      │
                   │ s               hide sources, and show them            │
                   │ c               clear: count from zero                 │
                   │ ↑ ↓ (k j)       scroll by a row                        │
                   │ PgUp PgDn       by a page; Home End (g G): all the way │
                   │                                                        │
                   │ A request counts when it has ended, TCP when closed.   │
                   │ Success: no 5xx, gRPC status 0, not broken off.        │
                   │ TLS: √ mutual TLS, or why it is plaintext.             │
                   │ Sources hide first where there is no room.             │
                   └────────────────────────────────────────────────────────┘
        q quit   ? help   p pause   ←→ sort by   r reverse   s sources   c clear
    "#]]);
    assert_eq!(top.press(&[KeyCode::Char('q')]), After::Continue);
    assert!(!top.text().contains("scroll"), "{}", top.text());
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    for width in [0, 1, 5, 30, 300] {
        for height in [0, 1, 2, 3, 4] {
            let mut top = Top::with_traffic(width, height);
            top.surroundings.trouble = Some("pod x: gone".into());
            top.press(&[KeyCode::End, KeyCode::Char('?')]);
            assert_eq!(top.text().lines().count(), usize::from(height));
        }
    }
}

#[test]
fn a_resized_terminal_gets_a_new_layout() {
    let mut top = Top::with_traffic(120, 9);
    assert!(top.text().contains("SOURCE"));
    top.terminal.backend_mut().resize(60, 9);
    let text = top.text();
    assert!(
        !text.contains("SOURCE") && text.contains("SUCCESS"),
        "{text}"
    );
}

#[test]
fn any_column_orders_the_rows_and_again_the_other_way_round() {
    let mut top = Top::with_traffic(120, 9);
    assert_eq!(top.column(4), ["6", "4", "3"]);
    for (keys, column, expected) in [
        (
            &[KeyCode::Char('1')][..],
            0,
            ["10.0.0.1", "vote-bot", "web"],
        ),
        (&[KeyCode::Char('1')], 0, ["web", "vote-bot", "10.0.0.1"]),
        (&[KeyCode::Char('7')], 6, ["1.2s", "2ms", "870µs"]),
        (&[KeyCode::Char('9')], 8, ["83.33%", "100.00%", "100.00%"]),
        (&[KeyCode::Right], 9, ["peer_sent_plaintext", "√", "√"]),
        (&[KeyCode::Right], 0, ["10.0.0.1", "vote-bot", "web"]),
        (
            &[KeyCode::Left, KeyCode::Left, KeyCode::Char('r')],
            8,
            ["100.00%", "100.00%", "83.33%"],
        ),
    ] {
        top.press(keys);
        assert_eq!(top.column(column), expected, "{keys:?}");
    }
}

#[test]
fn a_pause_keeps_the_screen_and_counts_on() {
    let mut top = Top::with_traffic(120, 9);
    top.press(&[KeyCode::Char('p')]);
    Sample::default().add_to(&mut top.figures, 99);
    assert_eq!(top.column(4), ["6", "4", "3"]);
    assert!(top.text().contains("PAUSED"));
    top.press(&[KeyCode::Char('p')]);
    assert_eq!(top.column(4), ["7", "4", "3"]);
}

#[test]
fn sources_hide_and_their_rows_are_added_up() {
    let mut top = Top::with_traffic(120, 9);
    let other = Sample {
        source: EMOJI,
        ..Sample::default()
    };
    other.add_to(&mut top.figures, 99);
    assert_eq!(top.column(4).len(), 4);
    top.press(&[KeyCode::Char('s')]);
    assert_eq!(top.column(3), ["7", "4", "3"]);
    assert!(!top.text().contains("SOURCE"));
}

#[test]
fn rows_scroll_to_the_last_page_and_no_further() {
    // Room for two of the three rows.
    let mut top = Top::with_traffic(120, 5);
    assert_eq!(top.column(4)[..2], ["6", "4"]);
    top.press(&[KeyCode::End, KeyCode::Down]);
    assert_eq!(top.column(4)[..2], ["4", "3"]);
    top.press(&[KeyCode::Up]);
    assert_eq!(top.column(4)[..2], ["6", "4"]);
    top.press(&[KeyCode::PageDown]);
    assert_eq!(top.column(4)[..2], ["4", "3"]);
    top.press(&[KeyCode::Home]);
    assert_eq!(top.column(4)[..2], ["6", "4"]);
}

#[test]
fn clear_counts_from_zero() {
    let mut top = Top::with_traffic(120, 9);
    top.press(&[KeyCode::Char('c')]);
    assert!(
        top.text().contains("Waiting for requests"),
        "{}",
        top.text()
    );
}

#[test]
fn q_and_ctrl_c_quit_even_from_the_help() {
    let mut top = Top::with_traffic(80, 9);
    assert_eq!(top.press(&[KeyCode::Char('q')]), After::Quit);
    top.press(&[KeyCode::Char('?')]);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(top.view.key(interrupt, &top.figures), After::Quit);
}

#[test]
fn without_colors_there_are_none() {
    for (colors, expected) in [(Colors::Yes, true), (Colors::No, false)] {
        let mut top = Top::with_traffic(120, 9);
        top.surroundings.colors = colors;
        top.surroundings.trouble = Some("pod x: gone".into());
        top.draw();
        let buffer = top.terminal.backend().buffer();
        let colored = buffer.content.iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(colored, expected, "{colors:?}");
    }
}
