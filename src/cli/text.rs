//! Bytes, numbers and durations as people write and read them.

use std::time::Duration;

use serde_json::{Map, Value};

/// A key or value as one line of text: UTF-8 stays; a backslash, control characters and bytes
/// that are not UTF-8 become `\\` and `\xNN`, so that the text can be told back unambiguously.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        out.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits stand for, or `None` if they are not that.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| match &text[at..at + 2] {
            // `from_str_radix` would take a sign.
            pair if pair.bytes().all(|c| c.is_ascii_hexdigit()) => {
                u8::from_str_radix(pair, 16).ok()
            }
            _ => None,
        })
        .collect()
}

/// Puts bytes into a JSON object: `name` as a string if they are UTF-8, else `name_hex`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8], as_hex: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !as_hex => object.insert(name.to_owned(), text.into()),
        _ => object.insert(format!("{name}_hex"), hex(bytes).into()),
    };
}

/// `48561` as `48,561`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 key`, `2 keys`.
pub fn counted(number: u64, singular: &str) -> String {
    match number {
        1 => format!("1 {singular}"),
        _ => format!("{} {singular}s", count(number)),
    }
}

/// A size with a binary unit and about three digits.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut scaled = number as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match scaled {
        s if s < 9.995 => format!("{s:.2} {}", UNITS[unit]),
        s if s < 99.95 => format!("{s:.1} {}", UNITS[unit]),
        s => format!("{s:.0} {}", UNITS[unit]),
    }
}

/// A duration with a unit and about three digits.
pub fn duration(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.3} us", n / 1e3),
        n if n < 1e9 => format!("{:.1} ms", n / 1e6),
        n if n < 120e9 => format!("{:.2} s", n / 1e9),
        n => format!("{:.1} min", n / 60e9),
    }
}

/// How many in a second.
pub fn rate(number: u64, time: Duration) -> u64 {
    (number as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// `2GiB`, `64 MB`, `4096`: a size in bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("write a size such as 4096, 64MiB or 2GiB".into()),
    };
    scaled(number, scale).ok_or_else(|| "write a size such as 4096, 64MiB or 2GiB".into())
}

/// `500ms`, `10s`, `5m`, `2h`, `1d`; without a unit seconds. Never zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write a time such as 500ms, 10s, 5m, 2h or 1d";
    let (number, unit) = split_unit(text);
    let scale_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(HOW.into()),
    };
    match scaled(number, scale_ms) {
        Some(0) => Err("must be at least 1ms".into()),
        // A century: what comes later cannot be told from never, and overflows clocks.
        Some(ms) if ms > 100 * 366 * 86_400_000 => Err("must be less than a century".into()),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(HOW.into()),
    }
}

/// A place on the ring: decimal, or hexadecimal with `0x`.
pub fn parse_position(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|_| "write a number from 0 to 2^64 - 1, decimal or 0x...".into())
}

/// The level from which messages are shown.
pub fn parse_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "write off, error, warn, info, debug or trace".into())
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Whole numbers are exact; only what is written with a point goes through a float.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let product = number.parse::<f64>().ok()? * scale as f64;
    (product.is_finite() && product >= 0.0 && product < u64::MAX as f64).then_some(product as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_unambiguous() {
        assert_eq!(escaped("grün".as_bytes()), "grün");
        assert_eq!(escaped(b"a\\b\n\xff\x00"), "a\\\\b\\x0a\\xff\\x00");
        assert_eq!(escaped("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    #[test]
    fn hex_goes_there_and_back() {
        assert_eq!(unhex(&hex(b"\x00\xffk")), Some(b"\x00\xffk".to_vec()));
        for wrong in ["0", "0g", "+1", "ß", "é0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(48_561), "48,561");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(999), "999");
        assert_eq!(counted(1, "key"), "1 key");
        assert_eq!(counted(0, "key"), "0 keys");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 20), "3.00 MiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!(duration(Duration::from_micros(1500)), "1.5 ms");
    }

    #[test]
    fn sizes_and_times_are_parsed_or_refused() {
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("1.5k"), Ok(1536));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for wrong in ["", "x", "-1", "1 parsec", "99999999999999999999g", "1e300"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("0.5s"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0s", "-1s", "1y", "99999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_position("0xff"), Ok(255));
        assert!(parse_position("-1").is_err());
    }
}
