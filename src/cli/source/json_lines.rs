//! JSON lines: with `--key FIELD` the key is that field's text and the value the whole line;
//! without it the lines are what `ringkv dump` writes, and both come back byte for byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::{Item, Items, too_long};
use crate::cli::output::{Failure, Outcome};
use crate::cli::text::unhex;

/// A line that holds the longest value in hexadecimal, its key, and the braces around them.
const LINE_BYTES_MAX: usize = 2 * crate::base::limits::VALUE_BYTES_MAX + 64 * 1024;

pub(super) fn open(path: &Path, key: Option<String>, value_bytes_max: usize) -> Outcome<Items> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Failure::io(format!("cannot read {name}"), &e))?;
    let input = BufReader::with_capacity(64 * 1024, file);
    Ok(Box::new(Lines { input, name, key, value_bytes_max, line: 0, failed: false }))
}

struct Lines<R> {
    input: R,
    name: String,
    key: Option<String>,
    value_bytes_max: usize,
    line: u64,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    fn next_item(&mut self) -> Outcome<Option<Item>> {
        let mut line = Vec::new();
        while line.trim_ascii().is_empty() {
            line.clear();
            let count = (&mut self.input)
                .take(LINE_BYTES_MAX as u64)
                .read_until(b'\n', &mut line)
                .map_err(|e| Failure::io(format!("cannot read {}", self.name), &e))?;
            if count == 0 {
                return Ok(None);
            }
            self.line += 1;
        }
        let place = format!("line {} of {}", self.line, self.name);
        if line.len() >= LINE_BYTES_MAX {
            return Err(Failure::new(format!("{place} is longer than any value may be")));
        }
        let line = line.trim_ascii();
        let object: Map<String, Value> = match serde_json::from_slice(line) {
            Ok(object) => object,
            Err(_) => return Ok(Some(Item::Skipped(format!("{place} is not a JSON object")))),
        };
        let pair = match &self.key {
            Some(field) => field_text(&object, field).map(|key| (key, line.to_vec())),
            None => dumped(&object, "key").and_then(|k| Ok((k, dumped(&object, "value")?))),
        };
        Ok(Some(match pair {
            Ok((_, value)) if value.len() > self.value_bytes_max => {
                too_long(place, value.len() as u64, self.value_bytes_max)
            }
            Ok((key, value)) => Item::Pair(key, value),
            Err(why) => Item::Skipped(format!("{place}: {why}")),
        }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Outcome<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_item();
        self.failed = item.is_err();
        item.transpose()
    }
}

fn field_text(object: &Map<String, Value>, field: &str) -> Result<Vec<u8>, String> {
    match object.get(field) {
        Some(Value::String(text)) if text.is_empty() => Err(format!("its {field} is empty")),
        Some(Value::String(text)) => Ok(text.clone().into_bytes()),
        Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string().into_bytes()),
        Some(_) => Err(format!("its {field} is neither a string nor a whole number")),
        None => Err(format!("it has no field '{field}'")),
    }
}

/// What `text::put_bytes` wrote.
fn dumped(object: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    if let Some(Value::String(text)) = object.get(name) {
        return Ok(text.clone().into_bytes());
    }
    match object.get(&format!("{name}_hex")) {
        Some(Value::String(digits)) => {
            unhex(digits).ok_or_else(|| format!("its {name}_hex is not hexadecimal"))
        }
        _ => Err(format!("it has no {name} as `ringkv dump` writes it, and --key is not given")),
    }
}

#[cfg(test)]
pub(super) fn from_bytes(input: &'static [u8], key: Option<&str>) -> Items {
    let (name, key) = ("test.jsonl".into(), key.map(str::to_owned));
    Box::new(Lines { input, name, key, value_bytes_max: 1000, line: 0, failed: false })
}
