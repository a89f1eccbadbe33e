//! `put`, `get`, `del`, `incr`, `cas` and `scan`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use serde_json::{Map, Value, json};

use super::args::{CasArgs, DelArgs, GetArgs, IncrArgs, PutArgs, ScanArgs};
use super::output::{Done, Failure, Outcome, note};
use super::text::{escaped, put_bytes};
use super::{Session, connect, lookup, shown_key, typed_bytes};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::base::{Error, Status};
use crate::{ReadOptions, ScanOptions, WriteOptions};

/// `ringkv put`
pub(super) fn put(args: &PutArgs, session: &mut Session) -> Outcome {
    let key = typed_bytes(args.form, &args.key)?;
    let value = given_value(args)?;
    let ring = connect(&args.target)?;
    let options = WriteOptions { ttl: args.ttl, if_absent: args.if_absent, ..Default::default() };
    let stored = match ring.put(&key, &value, &options) {
        Ok(()) => true,
        Err(error) if error.status() == Status::Exists => false,
        Err(error) => return Err(error.into()),
    };
    if session.out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &key, args.form.hex);
        object.insert("stored".into(), stored.into());
        object.insert("bytes".into(), value.len().into());
        session.out.json_line(&Value::Object(object))?;
    } else if !stored {
        note(format_args!("the key is there already: {}", shown_key(args.form, &key)));
    }
    Ok(if stored { Done::Yes } else { Done::No })
}

fn given_value(args: &PutArgs) -> Outcome<Vec<u8>> {
    match (&args.file, &args.value) {
        (Some(path), _) => {
            let what = format!("cannot read {}", path.display());
            let file = File::open(path).map_err(|error| Failure::io(&what, &error))?;
            bounded(file, &what)
        }
        (None, Some(value)) if value == "-" => {
            bounded(std::io::stdin().lock(), "cannot read standard input")
        }
        (None, value) => Ok(value.as_ref().map(|v| v.as_bytes().to_vec()).unwrap_or_default()),
    }
}

/// Reads to the end, but never more than any ring could take.
fn bounded(stream: impl Read, what: &str) -> Outcome<Vec<u8>> {
    let mut value = Vec::new();
    stream
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::io(what, &error))?;
    match value.len() > VALUE_BYTES_MAX {
        true => Err(Error::new(
            Status::ValueTooLarge,
            format!("the value is longer than {} MiB, which no ring takes", VALUE_BYTES_MAX >> 20),
        )
        .into()),
        false => Ok(value),
    }
}

/// `ringkv get`
pub(super) fn get(args: &GetArgs, session: &mut Session) -> Outcome {
    let key = typed_bytes(args.form, &args.key)?;
    let ring = connect(&args.target)?;
    let options = ReadOptions { lookup: lookup(args.mode), ..Default::default() };
    let value = ring.get(&key, &options)?;
    if session.out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &key, args.form.hex);
        object.insert("found".into(), value.is_some().into());
        if let Some(value) = &value {
            put_bytes(&mut object, "value", value, args.form.hex);
        }
        session.out.json_line(&Value::Object(object))?;
    } else if let Some(value) = &value {
        session.out.write_all(value)?;
        if session.out.terminal {
            session.out.write_all(b"\n")?;
        }
    } else {
        note(format_args!("no such key: {}", shown_key(args.form, &key)));
    }
    Ok(if value.is_some() { Done::Yes } else { Done::No })
}

/// `ringkv del`
pub(super) fn del(args: &DelArgs, session: &mut Session) -> Outcome {
    let keys = args
        .keys
        .iter()
        .map(|key| typed_bytes(args.form, key))
        .collect::<Outcome<Vec<Vec<u8>>>>()?;
    let ring = connect(&args.target)?;
    let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let results = ring.delete_many(&borrowed, &WriteOptions::default())?;
    let mut deleted = 0u64;
    let mut failed: Option<Error> = None;
    for (key, result) in keys.iter().zip(results) {
        match result {
            Ok(true) => deleted += 1,
            Ok(false) if session.out.json => {}
            Ok(false) => note(format_args!("no such key: {}", shown_key(args.form, key))),
            Err(error) => {
                failed.get_or_insert(error.context(shown_key(args.form, key)));
            }
        }
    }
    if session.out.json {
        let missing = keys.len() as u64 - deleted;
        session.out.json_line(&json!({"deleted": deleted, "not_deleted": missing}))?;
    }
    match failed {
        Some(error) => Err(error.into()),
        None if deleted == keys.len() as u64 => Ok(Done::Yes),
        None => Ok(Done::No),
    }
}

/// `ringkv incr`
pub(super) fn incr(args: &IncrArgs, session: &mut Session) -> Outcome {
    let key = typed_bytes(args.form, &args.key)?;
    let ring = connect(&args.target)?;
    let options = WriteOptions { ttl: args.ttl, ..Default::default() };
    let sum = ring.incr(&key, args.delta, &options)?;
    if session.out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &key, args.form.hex);
        object.insert("sum".into(), sum.into());
        session.out.json_line(&Value::Object(object))?;
    } else {
        session.out.line(sum)?;
    }
    Ok(Done::Yes)
}

/// `ringkv cas`
pub(super) fn cas(args: &CasArgs, session: &mut Session) -> Outcome {
    let key = typed_bytes(args.form, &args.key)?;
    let ring = connect(&args.target)?;
    let expected = args.expect.as_ref().map(|value| value.as_bytes());
    let options = WriteOptions { ttl: args.ttl, ..Default::default() };
    let swapped = ring.cas(&key, expected, args.value.as_bytes(), &options)?;
    if session.out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &key, args.form.hex);
        object.insert("stored".into(), swapped.into());
        session.out.json_line(&Value::Object(object))?;
    } else if !swapped {
        let key = shown_key(args.form, &key);
        note(match args.absent {
            true => format!("the key is there already: {key}"),
            false => format!("the key does not have the expected value: {key}"),
        });
    }
    Ok(if swapped { Done::Yes } else { Done::No })
}

/// `ringkv scan`
pub(super) fn scan(args: &ScanArgs, session: &mut Session) -> Outcome {
    let prefix = match &args.prefix {
        Some(prefix) => typed_bytes(args.form, prefix)?,
        None => Vec::new(),
    };
    let ring = connect(&args.target)?;
    let options = ScanOptions { prefix, keys_only: args.keys, ..Default::default() };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut pages = ring.scan(options)?;
    while left > 0
        && let Some(page) = pages.next_page()?
    {
        for (key, value) in page {
            if left == 0 {
                break;
            }
            left -= 1;
            if session.out.json {
                let mut object = Map::new();
                put_bytes(&mut object, "key", &key, args.form.hex);
                if !args.keys {
                    put_bytes(&mut object, "value", &value, args.form.hex);
                }
                session.out.json_line(&Value::Object(object))?;
            } else if args.keys {
                session.out.line(shown_key(args.form, &key))?;
            } else {
                let key = shown_key(args.form, &key);
                session.out.line(format_args!("{key}\t{}", escaped(&value)))?;
            }
        }
        session.out.flush()?;
    }
    Ok(Done::Yes)
}
