//! What the text of a number is: whether a type can hold it, and gives it back as it was.

use super::kind::Kind;

/// Up to here, every decimal has a float64 of its own.
const SURE_DIGITS: usize = 15;
/// Digits behind the last one that are looked at for a half.
const BEHIND: usize = 40;

/// What an integer or decimal of JSON is; its text is known to be one.
pub(super) fn of_json(text: &str) -> Kind {
    if text
        .bytes()
        .any(|b| matches!(b, b'.' | b'e' | b'E' | b'N' | b'I'))
    {
        return of_float(text);
    }
    match of_integer(text) {
        Kind::Odd => Kind::Int,
        kind => kind,
    }
}

/// What a field of CSV is.
pub(super) fn of_field(text: &str) -> Kind {
    match text {
        "true" | "false" => return Kind::Bool,
        "True" | "False" => return Kind::Title,
        "TRUE" | "FALSE" => return Kind::Upper,
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || text.parse::<f64>().is_err() {
        return Kind::Text;
    }
    if digits.bytes().any(|byte| !byte.is_ascii_digit()) {
        return of_float(text);
    }
    let plain = !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
    if plain && text != "-0" {
        of_integer(text)
    } else {
        Kind::Odd
    }
}

fn of_integer(text: &str) -> Kind {
    if let Ok(value) = text.parse::<i64>() {
        // `-0` is an integer that comes back as another text.
        return if value == 0 && text.len() > 1 {
            Kind::Odd
        } else if exact(text) {
            Kind::Int
        } else {
            Kind::Wide
        };
    }
    if text.parse::<u64>().is_ok() {
        return Kind::Unsigned;
    }
    Kind::Huge
}

fn of_float(text: &str) -> Kind {
    if exact(text) {
        Kind::Float
    } else {
        Kind::Rough
    }
}

/// Whether a number is what its float64 is, rounded to as many digits.
///
/// Of two numbers that are, and are written with as many digits, none have the same float64, but
/// for the two neighbours of one that lies half way between them.
fn exact(text: &str) -> bool {
    let digits: Vec<u8> = digits_of(text).collect();
    if digits.len() <= SURE_DIGITS {
        return digits.is_empty() || !vanishes(text);
    }
    let Some(value) = text.parse().ok().filter(|value: &f64| value.is_finite()) else {
        return false;
    };
    let written = |n_digits: usize| format!("{:.*e}", n_digits - 1, value.abs());
    // A float just below a power of ten is rounded to it, and has a digit less there.
    let below = written(digits.len()).starts_with('9') && digits[0] == b'1';
    let n_digits = digits.len() - usize::from(below);
    if digits_of(&written(n_digits)).eq(digits[..n_digits].iter().copied()) {
        return true;
    }
    // Half way, some round to even as the standard library does, some up and some down.
    let long: Vec<u8> = digits_of(&written(n_digits + BEHIND)).collect();
    let (head, tail) = long.split_at(n_digits.min(long.len()));
    let half = tail
        .split_first()
        .is_some_and(|(first, rest)| *first == b'5' && rest.iter().all(|&digit| digit == b'0'));
    half && number(head)
        .zip(number(&digits))
        .is_some_and(|(down, given)| given == down || given == down + 1)
}

/// Whether a number other than 0 is 0 as float64.
fn vanishes(text: &str) -> bool {
    // Without an exponent it takes hundreds of zeros.
    let may = text.len() > 300 || text.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    may && text.parse() == Ok(0.0)
}

/// The digits of a number from the first that is not 0, without its exponent.
fn digits_of(text: &str) -> impl Iterator<Item = u8> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.skip_while(|&digit| digit == b'0')
}

fn number(digits: &[u8]) -> Option<u128> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_float64_would_round_is_not_what_it_writes_itself() {
        for text in [
            "0.1",
            "0.30000000000000004",
            "0.1000000000000000056",
            "5.960464477539063e-08",
            "5.960464477539062e-08",
            "1125899906842624.7",
            "1125899906842624.8",
            "0.0000010000000000000000",
            "1e-300",
            "1e-320",
            "-5e-324",
            "0e-400",
            "0.000E5",
            "NaN",
        ] {
            assert_eq!(of_json(text), Kind::Float, "{text}");
        }
        for text in [
            "0.10000000000000000001",
            "1.0000000000000000e-01",
            "9007199254740993.0",
            "1.23456789012345678",
            "1e-400",
            "-1E-400",
        ] {
            assert_eq!(of_json(text), Kind::Rough, "{text}");
        }
        assert_eq!(of_json("9007199254740993"), Kind::Wide);
        assert_eq!(of_json("9007199254740992"), Kind::Int);
        assert_eq!(of_json("18446744073709551615"), Kind::Unsigned);
        assert_eq!(of_json("-9223372036854775809"), Kind::Huge);
    }

    #[test]
    fn a_field_is_an_integer_only_if_it_comes_back_as_it_was() {
        for text in ["007", "+1", "-0", "00"] {
            assert_eq!(of_field(text), Kind::Odd, "{text}");
        }
        for text in ["", "-", "1_000", "0x1", " 1", "1,5", "None"] {
            assert_eq!(of_field(text), Kind::Text, "{text}");
        }
        assert_eq!(of_field("-7"), Kind::Int);
        assert_eq!(of_field(".5"), Kind::Float);
        assert_eq!(of_field("inf"), Kind::Float);
    }
}
