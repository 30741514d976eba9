//! Lengths of time in whole microseconds: `5 minutes`, `-1 day 2 hours`, `0.5 s`.

/// Reads a length of time; the error says what is wrong where there is more to say than that it
/// is none. Months and years are refused: windows and delays need a fixed length.
pub fn parse_micros(text: &str) -> Result<i64, Option<&'static str>> {
    let lower = text.trim().to_ascii_lowercase();
    let mut rest = lower
        .strip_prefix("interval ")
        .unwrap_or(&lower)
        .trim_start();
    if rest.is_empty() {
        return Err(None);
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let (negative, unsigned) = match rest.as_bytes()[0] {
            b'-' => (true, rest[1..].trim_start()),
            b'+' => (false, rest[1..].trim_start()),
            _ => (false, rest),
        };
        let digits = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, after) = unsigned.split_at(digits);
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, remainder) = after.split_at(letters);
        let scaled = scale(number, unit_micros(unit)?)?;
        total += if negative { -scaled } else { scaled };
        rest = remainder.trim_start_matches([' ', '\t', ',']);
    }
    i64::try_from(total).map_err(|_| Some("it is too long"))
}

fn unit_micros(unit: &str) -> Result<i128, Option<&'static str>> {
    Ok(match unit {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "w" | "week" | "weeks" => 604_800_000_000,
        "mon" | "month" | "months" | "year" | "years" | "y" | "quarter" | "quarters" => {
            return Err(Some("months and years have no fixed length"));
        }
        _ => return Err(None),
    })
}

/// `number` times `unit`, exactly; what is less than a microsecond is refused.
fn scale(number: &str, unit: i128) -> Result<i128, Option<&'static str>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 18 {
        return Err(None);
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| None)?
    };
    let mut total = whole * unit;
    if !fraction.is_empty() {
        let parts: i128 = fraction.parse().map_err(|_| None)?;
        let denominator = 10_i128.pow(fraction.len() as u32);
        if parts * unit % denominator != 0 {
            return Err(Some("it is no whole number of microseconds"));
        }
        total += parts * unit / denominator;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_exact() {
        let minute = 60_000_000;
        let cases = [
            ("5 minutes", Ok(5 * minute)),
            ("INTERVAL 10 MINUTES", Ok(10 * minute)),
            ("1 hour 30 minutes", Ok(90 * minute)),
            ("-15 minutes", Ok(-15 * minute)),
            ("0.5 seconds", Ok(500_000)),
            ("10s", Ok(10_000_000)),
            (
                "1 month",
                Err(Some("months and years have no fixed length")),
            ),
            (
                "0.0000001 seconds",
                Err(Some("it is no whole number of microseconds")),
            ),
            ("five minutes", Err(None)),
            ("5", Err(None)),
            ("", Err(None)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_micros(text), expected, "{text}");
        }
    }
}
