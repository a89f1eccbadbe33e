//! The rules for Rust sources.

use crate::Finding;
use crate::source::{Source, is_word, line_of, words};

/// Each layer and what it may import. `ring`, `store` and `net` stand side by side.
const LAYERS: [(&str, &[&str]); 9] = [
    ("base", &[]),
    ("ring", &["base"]),
    ("store", &["base"]),
    ("net", &["base"]),
    ("wire", &["base", "ring", "store"]),
    ("proto", &["base", "ring", "store", "wire"]),
    ("node", &["base", "ring", "store", "net", "wire", "proto"]),
    ("ffi", &["base", "ring", "store", "net", "wire", "proto", "node"]),
    ("cli", &["base", "ring", "store", "net", "wire", "proto", "node"]),
];

/// The layers that are driven by a simulator: values in, values out.
const PURE: [&str; 5] = ["base", "ring", "store", "wire", "proto"];

/// What a pure layer may not name. The clock is among the banned calls below.
const IMPURE: [&str; 12] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "mio",
    "socket2",
    "libc",
    "parking_lot",
    "crossbeam_channel",
    "Mutex",
    "thread",
];

const FILE_LINES_MAX: usize = 800;
const FILE_CODE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Imports go down only, and name the layer that owns the item.
pub fn layers(source: &Source) -> Vec<Finding> {
    let Some(layer) = source.layer() else { return Vec::new() };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (index, name) in crate_paths(source) {
        let known = LAYERS.iter().any(|(other, _)| *other == name);
        if name == layer || allowed.contains(&name.as_str()) {
            continue;
        }
        let advice = if known {
            format!(
                "`{layer}` may not import `{name}`, only {allowed:?}: move the shared part down, \
                 or pass it in from above"
            )
        } else if matches!(layer, "ffi" | "cli") {
            continue; // The top may use the public names of the crate's root.
        } else {
            format!("`crate::{name}`: import it from the layer that owns it")
        };
        findings.push(Finding::new(&source.path, index, advice));
    }
    for at in find(source, "super::super") {
        if !source.test[at] {
            let advice = "`super::super` hides the layer: write the path from `crate::`";
            findings.push(Finding::new(&source.path, at, advice));
        }
    }
    findings
}

/// The first names of all `crate::...` paths, with their lines; macros are left out.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let text: Vec<char> = source.text().chars().collect();
    let mut paths = Vec::new();
    for start in words(&text, "crate") {
        let Some(after) = text[start..].strip_prefix(&['c', 'r', 'a', 't', 'e', ':', ':']) else {
            continue;
        };
        let names = if after.first() == Some(&'{') { group(after) } else { vec![word(after)] };
        let line = line_of(&text, start);
        let is_macro = |name: &str| after.get(name.chars().count()) == Some(&'!');
        paths
            .extend(names.into_iter().filter(|n| !n.is_empty() && !is_macro(n)).map(|n| (line, n)));
    }
    paths
}

/// The first names of the branches of `{a::b, c::{d, e}}`.
fn group(text: &[char]) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    for (at, c) in text.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(c, '{' | ',') {
            let branch = &text[at + 1..];
            let skip = branch.iter().take_while(|c| c.is_whitespace()).count();
            names.push(word(&branch[skip..]));
        }
    }
    names
}

fn word(text: &[char]) -> String {
    text.iter().take_while(|c| is_word(**c)).collect()
}

/// No sockets, locks or threads below the runtime.
pub fn pure_layers(source: &Source) -> Vec<Finding> {
    let Some(layer) = source.layer().filter(|layer| PURE.contains(layer)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for name in IMPURE {
        for at in find(source, name).into_iter().filter(|at| !source.test[*at]) {
            let advice =
                format!("`{name}` in `{layer}`: sockets, locks and threads belong to `node`");
            findings.push(Finding::new(&source.path, at, advice));
        }
    }
    findings
}

/// A file is one concept, and short enough to be read at once.
pub fn file_length(source: &Source) -> Vec<Finding> {
    let all = source.raw.len();
    let code = source.test.iter().filter(|test| !**test).count();
    let mut findings = Vec::new();
    if all > FILE_LINES_MAX {
        let advice = format!("{all} lines, {FILE_LINES_MAX} is the limit: split by concept");
        findings.push(Finding::new(&source.path, 0, advice));
    }
    if code > FILE_CODE_LINES_MAX {
        let advice = format!(
            "{code} lines without the tests, {FILE_CODE_LINES_MAX} is the limit: split by concept"
        );
        findings.push(Finding::new(&source.path, 0, advice));
    }
    findings
}

/// A function fits on a screen.
pub fn function_length(source: &Source) -> Vec<Finding> {
    let lines = |f: &crate::source::Function| f.last - f.first + 1;
    let long = source.functions().into_iter().filter(|f| lines(f) > FUNCTION_LINES_MAX);
    let finding = |f: crate::source::Function| {
        let advice = format!(
            "`{}` has {} lines, {FUNCTION_LINES_MAX} is the limit: name its parts and extract them",
            f.name,
            lines(&f)
        );
        Finding::new(&source.path, f.first, advice)
    };
    long.map(finding).collect()
}

/// `unsafe` is for the C surface and the system calls, and each block says why it is sound.
pub fn unsafe_places(source: &Source) -> Vec<Finding> {
    let allowed = source.path.starts_with("src/ffi/") || source.path == "src/net/sys.rs";
    let mut findings = Vec::new();
    for at in find(source, "unsafe") {
        let opens = ["unsafe {", "unsafe impl"].iter().any(|form| source.code[at].contains(form));
        if !allowed {
            let advice = "`unsafe` stands in src/ffi/ and src/net/sys.rs only: find a safe way, \
                          or put a safe function there";
            findings.push(Finding::new(&source.path, at, advice));
        } else if opens && !is_explained(source, at) {
            let advice = "say above the block, after `// SAFETY:`, why it is sound";
            findings.push(Finding::new(&source.path, at, advice));
        }
    }
    findings
}

/// Whether the statement that line `at` belongs to has a `SAFETY:` comment: in the comment right
/// above, or above the (at most three) lines of code that the statement began with.
fn is_explained(source: &Source, at: usize) -> bool {
    let mut code_lines = 0;
    for index in (0..=at).rev() {
        let raw = source.raw[index].trim();
        if raw.contains("SAFETY:") {
            return true;
        }
        let is_comment = raw.starts_with("//");
        let ends_statement = index < at && (raw.is_empty() || raw.ends_with([';', '}']));
        code_lines += usize::from(!is_comment);
        if ends_statement || code_lines > 4 {
            return false;
        }
    }
    false
}

/// A call that is banned outside tests.
struct Ban {
    call: &'static str,
    allowed_in: &'static [&'static str],
    banned_in: &'static [&'static str],
    instead: &'static str,
}

const EVERYWHERE: &[&str] = &["src/", "bindings/"];
const CORES: &[&str] = &["src/base/", "src/ring/", "src/store/", "src/wire/", "src/proto/"];
const SHELL: &[&str] = &["src/cli/", "src/bin/"];

const fn ban(
    call: &'static str,
    allowed_in: &'static [&'static str],
    instead: &'static str,
) -> Ban {
    Ban { call, allowed_in, banned_in: EVERYWHERE, instead }
}

const fn ban_in_cores(call: &'static str, instead: &'static str) -> Ban {
    Ban { call, allowed_in: &[], banned_in: CORES, instead }
}

const NOW: &str = "take `now: Nanos` as an argument; only the runtime reads a clock";
const LOG: &str = "use the `log` macros; a library does not write to its host's terminal";
const UNFINISHED: &str = "finish it, or return an error that says what is not supported";
const EXIT: &str = "return an error; a library never ends its host";

const BANS: [Ban; 14] = [
    ban(".unwrap()", &[], "use `?`, or `expect` with the invariant that holds"),
    ban(".unwrap_unchecked()", &[], "use `expect` with the invariant that holds"),
    ban("todo!(", &[], UNFINISHED),
    ban("unimplemented!(", &[], UNFINISHED),
    ban("dbg!(", &[], LOG),
    ban("print!(", SHELL, LOG),
    ban("println!(", SHELL, LOG),
    ban("eprint!(", SHELL, LOG),
    ban("eprintln!(", SHELL, LOG),
    ban_in_cores("Instant::now(", NOW),
    ban_in_cores("SystemTime::now(", NOW),
    ban(
        "thread::sleep",
        SHELL,
        "wait for the condition: poll timeout, channel, condition variable",
    ),
    ban("process::exit(", &["src/bin/"], EXIT),
    ban("process::abort(", &[], EXIT),
];

/// Calls that have a better replacement, and tests that do not run.
pub fn banned_calls(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let starts = |places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
    for ban in BANS.iter().filter(|ban| starts(ban.banned_in) && !starts(ban.allowed_in)) {
        for at in find(source, ban.call).into_iter().filter(|at| !source.test[*at]) {
            let advice = format!("`{}` is banned here: {}", ban.call, ban.instead);
            findings.push(Finding::new(&source.path, at, advice));
        }
    }
    for at in find(source, "#[ignore") {
        let advice = "a test that does not run proves nothing: make it fit, or remove it";
        findings.push(Finding::new(&source.path, at, advice));
    }
    findings
}

/// The lines whose code contains `needle`, which begins and ends at a word's edge if it is one.
fn find(source: &Source, needle: &str) -> Vec<usize> {
    let starts_word = needle.starts_with(is_word);
    let ends_word = needle.ends_with(is_word) && !needle.starts_with('#');
    let glued = |c: Option<char>| c.is_some_and(is_word);
    let contains = |line: &str| {
        line.match_indices(needle).any(|(at, _)| {
            let before = starts_word && glued(line[..at].chars().next_back());
            let after = ends_word && glued(line[at + needle.len()..].chars().next());
            !before && !after
        })
    };
    let lines = source.code.iter().enumerate();
    lines.filter(|(_, line)| contains(line)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines, from one, that `rule` finds in `text`.
    fn found(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::parse(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn layers_reject_an_import_from_above_or_beside() {
        let cases = [
            ("src/ring/a.rs", "use crate::base::Ver;", vec![]),
            ("src/ring/a.rs", "use crate::ring::RingMap;", vec![]),
            ("src/ring/a.rs", "// crate::node\nuse crate::node::Ring;", vec![2]),
            ("src/ring/a.rs", "use crate::{base::Ver, store::{Table, X}};", vec![1]),
            ("src/ring/a.rs", "use crate::{\n    base,\n    store,\n};", vec![1]),
            ("src/store.rs", "fn f(m: &crate::ring::RingMap) {}", vec![1]),
            ("src/net/conn.rs", "use crate::wire::Frame;", vec![1]),
            ("src/proto/a.rs", "use crate::net::Conn;", vec![1]),
            ("src/proto/a.rs", "use crate::wire::Frame;\ncrate::trace!(1);", vec![]),
            ("src/node/a.rs", "use crate::ffi::Handle;", vec![1]),
            ("src/node/a.rs", "use crate::Ring;", vec![1]),
            ("src/cli/a.rs", "use crate::Ring;", vec![]),
            ("src/cli/a.rs", "use crate::ffi::Handle;", vec![1]),
            ("src/proto/a.rs", "use super::super::net::Conn;", vec![1]),
            ("src/lib.rs", "pub use crate::node::Ring;", vec![]),
        ];
        for (path, text, expected) in cases {
            assert_eq!(found(layers, path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn pure_layers_reject_sockets_locks_and_threads() {
        let text = "use parking_lot::Mutex;\nuse std::collections::BTreeMap;";
        assert_eq!(found(pure_layers, "src/proto/a.rs", text), [1, 1]);
        assert_eq!(found(pure_layers, "src/node/a.rs", text), [0; 0]);
        assert_eq!(found(pure_layers, "src/wire/a.rs", "let mio_like = 1;"), [0; 0]);
        assert_eq!(found(pure_layers, "src/base/a.rs", "std::thread::current();"), [1]);
    }

    #[test]
    fn lengths_are_counted() {
        let long = "fn a() {\n".to_owned() + &"x;\n".repeat(FUNCTION_LINES_MAX - 1) + "}\n";
        assert_eq!(found(function_length, "src/a.rs", &long), [1]);
        let fits = long.replacen("x;\n", "", 1);
        assert_eq!(found(function_length, "src/a.rs", &fits), [0; 0]);
        let code = "x;\n".repeat(FILE_CODE_LINES_MAX + 1);
        assert_eq!(found(file_length, "src/a.rs", &code), [1]);
        assert_eq!(found(file_length, "tests/a.rs", &code), [0; 0]);
        let tests = "x;\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(found(file_length, "tests/a.rs", &tests), [1]);
    }

    #[test]
    fn unsafe_needs_its_place_and_its_reason() {
        let bare = "let a = 1;\nunsafe { f() };";
        let explained = "// SAFETY: f has no preconditions,\n// none at all.\nunsafe { f() };";
        let wrapped = "// SAFETY: as above.\nlet a =\n    unsafe { f() };";
        let stale = "// SAFETY: of g.\nunsafe { g() };\nunsafe { f() };";
        assert_eq!(found(unsafe_places, "src/node/a.rs", explained), [3]);
        assert_eq!(found(unsafe_places, "src/ffi/a.rs", explained), [0; 0]);
        assert_eq!(found(unsafe_places, "src/net/sys.rs", bare), [2]);
        assert_eq!(found(unsafe_places, "src/ffi/a.rs", wrapped), [0; 0]);
        assert_eq!(found(unsafe_places, "src/ffi/a.rs", stale), [3]);
        assert_eq!(found(unsafe_places, "src/a.rs", "#![deny(unsafe_code)] // unsafe"), [0; 0]);
        assert_eq!(found(unsafe_places, "src/ffi/a.rs", "unsafe extern \"C\" {}"), [0; 0]);
    }

    #[test]
    fn banned_calls_are_found_outside_tests() {
        for ban in &BANS {
            let text = format!("fn a() {{\n    x{}) }}", ban.call);
            let text = if ban.call.starts_with('.') { text } else { text.replace("    x", "    ") };
            assert_eq!(found(banned_calls, "src/proto/a.rs", &text), [2], "{}", ban.call);
            assert_eq!(found(banned_calls, "tests/a.rs", &text), [0; 0], "{}", ban.call);
            let inner = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
            assert_eq!(found(banned_calls, "src/proto/a.rs", &inner), [0; 0], "{}", ban.call);
        }
        assert_eq!(found(banned_calls, "src/cli/a.rs", "println!();"), [0; 0]);
        assert_eq!(found(banned_calls, "src/node/a.rs", "Instant::now();"), [0; 0]);
        assert_eq!(found(banned_calls, "src/proto/a.rs", "\"dbg!()\"; // dbg!()"), [0; 0]);
        assert_eq!(found(banned_calls, "tests/a.rs", "#[ignore = \"slow\"]\nfn a() {}"), [1]);
    }
}
