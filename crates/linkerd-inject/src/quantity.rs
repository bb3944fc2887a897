//! Amounts as Kubernetes writes them: `100m`, `64Mi`, `0.5`. Entries: [`amount`], by which two of them compare, and
//! [`written`] for the way back.

use serde_json::Value;

/// Each unit, and how many billionths it is: Kubernetes rounds what is smaller up.
const UNITS: [(&str, u128); 14] = [
    ("", BILLION),
    ("m", BILLION / 1000),
    ("k", BILLION * 1000),
    ("M", BILLION * 1000_u128.pow(2)),
    ("G", BILLION * 1000_u128.pow(3)),
    ("T", BILLION * 1000_u128.pow(4)),
    ("P", BILLION * 1000_u128.pow(5)),
    ("E", BILLION * 1000_u128.pow(6)),
    ("Ki", BILLION << 10),
    ("Mi", BILLION << 20),
    ("Gi", BILLION << 30),
    ("Ti", BILLION << 40),
    ("Pi", BILLION << 50),
    ("Ei", BILLION << 60),
];

/// One, in billionths.
pub(crate) const BILLION: u128 = 1_000_000_000;

/// The amount in billionths; none when `text` is not digits, perhaps with a point, and a unit. Of an amount
/// beyond all machines no more is known than that.
pub(crate) fn amount(text: &str) -> Option<u128> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    let (_, billionths) = UNITS.iter().find(|(known, _)| *known == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse().unwrap_or(u128::MAX);
    let mut amount = whole.saturating_mul(*billionths);
    let mut place = *billionths;
    for digit in fraction.bytes() {
        // The digits after this one are worth less than a billionth.
        if place < 10 {
            break;
        }
        place /= 10;
        amount = amount.saturating_add(u128::from(digit - b'0') * place);
    }
    Some(amount)
}

/// The shortest text for an amount in billionths, rounded up to thousandths as Kubernetes wants them of CPU.
pub(crate) fn written(amount: u128) -> String {
    const MILLI: u128 = BILLION / 1000;
    if !amount.is_multiple_of(BILLION) {
        return format!("{}m", amount.div_ceil(MILLI));
    }
    let is_whole = |size: u128| amount >= size && amount.is_multiple_of(size);
    let mut binary = UNITS.iter().rev().filter(|(unit, _)| unit.ends_with('i'));
    match binary.find(|(_, size)| is_whole(*size)) {
        Some((unit, size)) => format!("{}{unit}", amount / size),
        None => (amount / BILLION).to_string(),
    }
}

/// The text of a quantity, which YAML may have made a number.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{amount, written};

    #[test]
    fn an_amount_is_written_as_short_as_it_can_be() {
        for (text, expected) in [
            ("0", "0"),
            ("1010m", "1010m"),
            ("2000m", "2"),
            ("0.0001", "1m"),
            ("1044Mi", "1044Mi"),
            ("1024Mi", "1Gi"),
            ("1025", "1025"),
            ("1k", "1000"),
        ] {
            assert_eq!(written(amount(text).expect("an amount")), expected);
        }
    }

    #[test]
    fn the_same_amount_is_the_same_in_every_unit() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.1", "100m"),
            ("1.", "1.0"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1024"),
            ("1M", "1000k"),
            ("1Ei", "1024Pi"),
        ] {
            assert_eq!(amount(one), amount(other), "{one} {other}");
        }
    }

    #[test]
    fn amounts_are_in_order() {
        let ascending = [
            "0",
            "1m",
            "0.01",
            "1",
            "20M",
            "20Mi",
            "1G",
            "1Gi",
            "1.5Gi",
            "1Ei",
            "99999999999999999999999999999999999999999Ei",
        ];
        assert!(ascending.is_sorted_by_key(|text| amount(text)));
        assert!(ascending.iter().all(|text| amount(text).is_some()));
    }

    #[test]
    fn what_is_no_amount_has_none() {
        for text in ["", "m", ".5", "1.2.3", "-1", "1 Gi", "1gi", "many"] {
            assert_eq!(amount(text), None, "{text:?}");
        }
    }
}
