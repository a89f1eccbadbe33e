//! Just enough of Rust's syntax for the rules: what is code, what is a test, where functions end.

use std::collections::BTreeSet;

use crate::Tree;

/// A Rust file, line by line.
pub struct Source {
    /// Path from the project's root.
    pub path: String,
    /// The lines as they stand.
    pub raw: Vec<String>,
    /// The same lines with comments, strings and characters blanked out.
    pub code: Vec<String>,
    /// Whether each line is test code.
    pub test: Vec<bool>,
}

/// A function with a body: its name and its lines, both included, counted from zero.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

impl Source {
    /// Parses one file. Whole files of tests are recognised by their path.
    pub fn parse(path: &str, text: &str) -> Self {
        let blanked = blank(text);
        let code: Vec<String> = blanked.lines().map(str::to_owned).collect();
        let mut test = vec![is_test_path(path); code.len()];
        for (first, last, _) in test_items(&blanked) {
            test[first..=last].fill(true);
        }
        Self { path: path.into(), raw: text.lines().map(str::to_owned).collect(), code, test }
    }

    /// The blanked code as one text.
    pub fn text(&self) -> String {
        self.code.join("\n")
    }

    /// The layer that the file belongs to: the first part of its path below `src`.
    pub fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// The functions that have a body, inner ones too.
    pub fn functions(&self) -> Vec<Function> {
        let text: Vec<char> = self.text().chars().collect();
        let mut found = Vec::new();
        for start in words(&text, "fn") {
            let name: String =
                text[start + 2..].iter().skip(1).take_while(|c| is_word(**c)).collect();
            if name.is_empty() {
                continue; // A function pointer type.
            }
            if let Some((_, end)) = body(&text, start) {
                let (first, last) = (line_of(&text, start), line_of(&text, end));
                found.push(Function { name, first, last });
            }
        }
        found
    }
}

/// Every Rust file of the tree; a module file declared under `#[cfg(test)]` is a test throughout.
pub fn parse_all(tree: &Tree) -> Vec<Source> {
    let files = || tree.iter().filter(|(path, _)| path.ends_with(".rs"));
    let test_files: BTreeSet<String> =
        files().flat_map(|(path, text)| test_modules(path, text)).collect();
    let parse = |(path, text): (&String, &String)| {
        let mut source = Source::parse(path, text);
        if test_files.contains(path) {
            source.test.fill(true);
        }
        source
    };
    files().map(parse).collect()
}

/// Where the word `word` starts.
pub fn words(text: &[char], word: &str) -> Vec<usize> {
    let word: Vec<char> = word.chars().collect();
    let free = |at: Option<&char>| at.is_none_or(|c| !is_word(*c));
    (0..text.len())
        .filter(|&i| text[i..].starts_with(&word))
        .filter(|&i| (i == 0 || free(text.get(i - 1))) && free(text.get(i + word.len())))
        .collect()
}

/// The line, from zero, of position `at`.
pub fn line_of(text: &[char], at: usize) -> usize {
    text[..at].iter().filter(|c| **c == '\n').count()
}

/// Whether `c` can be part of an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_test_path(path: &str) -> bool {
    let top = ["tests/", "benches/", "fuzz/", "examples/"];
    top.iter().any(|t| path.starts_with(t)) || path.ends_with("/tests.rs")
}

/// The files that `#[cfg(test)] mod name;` declares.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let blanked = blank(text);
    let folder = match path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs")) => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    let declared = |item: &str| {
        let (_, after) = item.split_once("mod ")?;
        Some(after.trim_end().strip_suffix(';')?.to_owned())
    };
    let names = test_items(&blanked).into_iter().filter_map(|(_, _, item)| declared(&item));
    names.flat_map(|n| [format!("{folder}/{n}.rs"), format!("{folder}/{n}/mod.rs")]).collect()
}

/// The items under `#[cfg(test)]`: first line, last line, text.
fn test_items(blanked: &str) -> Vec<(usize, usize, String)> {
    let text: Vec<char> = blanked.chars().collect();
    let mut items = Vec::new();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (byte, _) in blanked.match_indices(mark) {
            let start = blanked[..byte].chars().count();
            let after = start + mark.len();
            let stop = text[after..].iter().position(|c| *c == ';').map(|at| after + at);
            let end = match (body(&text, after), stop) {
                (Some((open, end)), Some(stop)) if open < stop => end,
                (Some((_, end)), None) => end,
                (_, Some(stop)) => stop,
                (None, None) => text.len() - 1,
            };
            let item = text[start..=end].iter().collect();
            items.push((line_of(&text, start), line_of(&text, end), item));
        }
    }
    items
}

/// The braces of the first block after `start`: `None` if a `;` ends the item before it.
fn body(text: &[char], start: usize) -> Option<(usize, usize)> {
    let mut nested = 0i32;
    let mut open = None;
    for (at, c) in text.iter().enumerate().skip(start) {
        match c {
            '(' | '[' if open.is_none() => nested += 1,
            ')' | ']' if open.is_none() => nested -= 1,
            ';' if open.is_none() && nested == 0 => return None,
            '{' if open.is_none() && nested == 0 => (open, nested) = (Some(at), 1),
            '{' if open.is_some() => nested += 1,
            '}' if open.is_some() => nested -= 1,
            _ => {}
        }
        if let (Some(open), 0) = (open, nested) {
            return Some((open, at));
        }
    }
    None
}

/// The text with comments, strings and characters replaced by spaces, line by line as before.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = opaque_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        }
        while at < end {
            out.push(if chars[at] == '\n' { '\n' } else { ' ' });
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn opaque_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let after_word = at > 0 && is_word(chars[at - 1]);
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['r', '"' | '#', ..] if !after_word => 1 + raw_string(&rest[1..]),
        ['b' | 'c', 'r', '"' | '#', ..] if !after_word => 2 + raw_string(&rest[2..]),
        ['"', ..] => quoted(rest, '"'),
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    };
    // A raw identifier (`r#type`) has the prefix of a raw string, and nothing behind it.
    let prefix_only = length <= 2 && matches!(rest, ['r' | 'b' | 'c', ..]);
    at + if prefix_only { 0 } else { length }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of `#"..."#` with any number of hashes; 0 if it is none.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return 0;
    }
    let close: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
    let body = hashes + 1;
    let end = rest[body..].windows(close.len()).position(|w| w == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

#[test]
fn comments_and_literals_are_blanked() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x\"y", z)"#, "f(      , z)"),
        (r##"f(r#"x"y"#, z)"##, "f(        , z)"),
        ("f(b\"x\", 'y', '\\n', b'z')", "f(b   ,    ,     , b   )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#type + bar\"x\"", "r#type + bar   "),
        ("'{' \"multi\nline\" }", "          \n      }"),
    ];
    for (text, expected) in cases {
        assert_eq!(blank(text), expected, "{text}");
    }
}

#[test]
fn functions_are_found_with_their_ends() {
    let text =
        "fn a(x: [u8; 2]) {\n  {\n  }\n}\ntrait T {\n  fn b();\n  fn c() {}\n}\ntype F = fn(u8);";
    let found = Source::parse("src/x.rs", text).functions();
    let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
    assert_eq!(found, [("a", 0, 3), ("c", 6, 6)]);
}

#[test]
fn test_code_is_told_apart() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}";
    let source = Source::parse("src/x.rs", text);
    assert_eq!(source.test, [false, true, true, true, true, false]);
    let source = Source::parse("src/x.rs", "#[cfg(test)]\nuse a;\nfn c() {}");
    assert_eq!(source.test, [true, true, false]);
    assert!(Source::parse("tests/x.rs", "fn a() {}").test[0]);
}

#[test]
fn test_modules_in_their_own_files_are_tests() {
    let mut tree = Tree::new();
    tree.insert("src/x/mod.rs".into(), "#[cfg(test)]\nmod model;\nmod plain;".into());
    tree.insert("src/x/model.rs".into(), "fn a() {}".into());
    tree.insert("src/x/plain.rs".into(), "fn a() {}".into());
    let all = parse_all(&tree);
    let tests: Vec<_> = all.iter().map(|s| (s.path.as_str(), s.test[0])).collect();
    let expected = [("src/x/mod.rs", true), ("src/x/model.rs", true), ("src/x/plain.rs", false)];
    assert_eq!(tests, expected);
}
