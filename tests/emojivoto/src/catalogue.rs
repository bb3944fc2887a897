//! The emoji that stand for election: shortcode and character.

/// The shortcode whose votes always fail, so that there is something to find.
pub const ALWAYS_FAILS: &str = ":doughnut:";

/// Every emoji, in the order of the page.
pub const EMOJI: [(&str, &str); 48] = [
    (":joy:", "😂"),
    (":sunglasses:", "😎"),
    (":doughnut:", "🍩"),
    (":tada:", "🎉"),
    (":rocket:", "🚀"),
    (":ghost:", "👻"),
    (":cat2:", "🐈"),
    (":dog:", "🐶"),
    (":beer:", "🍺"),
    (":pizza:", "🍕"),
    (":taco:", "🌮"),
    (":burrito:", "🌯"),
    (":sushi:", "🍣"),
    (":bacon:", "🥓"),
    (":avocado:", "🥑"),
    (":mushroom:", "🍄"),
    (":cactus:", "🌵"),
    (":rainbow:", "🌈"),
    (":snowman:", "⛄"),
    (":fire:", "🔥"),
    (":balloon:", "🎈"),
    (":gift:", "🎁"),
    (":trophy:", "🏆"),
    (":medal:", "🏅"),
    (":guitar:", "🎸"),
    (":drum:", "🥁"),
    (":camera:", "📷"),
    (":bulb:", "💡"),
    (":key:", "🔑"),
    (":lock:", "🔒"),
    (":anchor:", "⚓"),
    (":ship:", "🚢"),
    (":bike:", "🚲"),
    (":tram:", "🚊"),
    (":mount_fuji:", "🗻"),
    (":camping:", "🏕️"),
    (":octopus:", "🐙"),
    (":whale:", "🐳"),
    (":turtle:", "🐢"),
    (":crab:", "🦀"),
    (":bee:", "🐝"),
    (":owl:", "🦉"),
    (":fox:", "🦊"),
    (":unicorn:", "🦄"),
    (":robot:", "🤖"),
    (":alien:", "👽"),
    (":wave:", "👋"),
    (":heart:", "❤️"),
];

/// The character of a shortcode.
pub fn unicode_of(shortcode: &str) -> Option<&'static str> {
    EMOJI
        .iter()
        .find(|(known, _)| *known == shortcode)
        .map(|(_, unicode)| *unicode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shortcode_is_there_once_and_between_colons() {
        for (shortcode, unicode) in EMOJI {
            assert!(shortcode.len() > 2 && shortcode.starts_with(':') && shortcode.ends_with(':'));
            assert_eq!(
                EMOJI
                    .iter()
                    .filter(|(other, _)| *other == shortcode)
                    .count(),
                1
            );
            assert_eq!(unicode_of(shortcode), Some(unicode));
        }
        assert!(unicode_of(ALWAYS_FAILS).is_some());
        assert_eq!(unicode_of("doughnut"), None);
    }
}
