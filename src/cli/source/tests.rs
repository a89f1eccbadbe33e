use super::*;

fn pairs(items: Items) -> Vec<(String, String)> {
    items
        .map(|item| match item.expect("no failure") {
            Item::Pair(key, value) => (text(key), text(value)),
            Item::Skipped(why) => ("SKIPPED".into(), why),
        })
        .collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.into(), value.into())
}

fn message<T>(result: Outcome<T>) -> String {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(failure) => failure.sentence().expect("a sentence"),
    }
}

#[test]
fn rows_keep_their_bytes_whatever_the_line_end() {
    let expected = vec![pair("7", "a,7,\"x, \"\"y\"\"\""), pair("8", "b,8,"), pair("9", "c,9,z")];
    for input in [
        &b"n,id,t\na,7,\"x, \"\"y\"\"\"\nb,8,\nc,9,z\n"[..],
        b"n,id,t\r\na,7,\"x, \"\"y\"\"\"\r\nb,8,\r\nc,9,z\r\n",
        b"n,id,t\ra,7,\"x, \"\"y\"\"\"\rb,8,\rc,9,z",
        b"\xef\xbb\xbfn,id,t\n\n\na,7,\"x, \"\"y\"\"\"\n\nb,8,\nc,9,z",
    ] {
        assert_eq!(pairs(csv_rows::from_bytes(input, Some("id")).expect("opens")), expected);
    }
}

#[test]
fn quoted_line_ends_and_keys_belong_to_their_row() {
    let input = b"id,t\n\"k,1\",\"two\nlines\"\nk2,one\n";
    let items = csv_rows::from_bytes(input, Some("id")).expect("opens");
    assert_eq!(pairs(items), [pair("k,1", "\"k,1\",\"two\nlines\""), pair("k2", "k2,one")]);
}

#[test]
fn rows_without_a_key_are_named_and_the_rest_goes_on() {
    let input = b"a,id\n1,x\nshort\n3,\n4,y\n";
    let items = csv_rows::from_bytes(input, Some("id")).expect("opens");
    let got = pairs(items);
    assert_eq!(got[0], pair("x", "1,x"));
    assert!(got[1].1.contains("row 2 of test.csv"), "{got:?}");
    assert!(got[2].1.contains("empty"), "{got:?}");
    assert_eq!(got[3], pair("y", "4,y"));
}

#[test]
fn rows_across_the_parsers_blocks_keep_their_bytes() {
    let mut file = String::from("id,text\n");
    let mut expected = Vec::new();
    for id in 0..5000 {
        let row = format!("{id},{}", "z".repeat(id % 97));
        expected.push(pair(&id.to_string(), &row));
        file.push_str(&row);
        file.push_str("\r\n");
    }
    let items = csv_rows::from_bytes(file.into_bytes().leak(), Some("id")).expect("opens");
    assert_eq!(pairs(items), expected);
}

#[test]
fn a_missing_column_is_one_sentence_with_the_columns_there_are() {
    let told = message(csv_rows::from_bytes(b"a,b\n1,2\n", Some("id")));
    assert_eq!(told, "test.csv has no column 'id'; its columns are a, b");
    assert!(message(csv_rows::from_bytes(b"a,b\n", None)).contains("a, b"));
    assert!(message(csv_rows::from_bytes(b"", Some("id"))).contains("empty"));
}

#[test]
fn long_rows_are_named() {
    let mut file = b"id,t\nk,".to_vec();
    file.extend(std::iter::repeat_n(b'x', 2000));
    let items = csv_rows::from_bytes(file.leak(), Some("id")).expect("opens");
    let got = pairs(items);
    assert!(got[0].1.contains("over the ring's limit"), "{got:?}");
}

#[test]
fn json_lines_by_field_and_as_dumped() {
    let input = b"{\"id\": 7, \"x\": [1]}\r\n\n{\"id\":\"seven\"}\n[1]\n{\"id\":1.5}\n{\"x\":1}";
    let got = pairs(json_lines::from_bytes(input, Some("id")));
    assert_eq!(got[0], pair("7", "{\"id\": 7, \"x\": [1]}"));
    assert_eq!(got[1], pair("seven", "{\"id\":\"seven\"}"));
    assert!(got[2].1.contains("line 4"), "{got:?}");
    assert!(got[3].1.contains("neither"), "{got:?}");
    assert!(got[4].1.contains("no field 'id'"), "{got:?}");
    let input =
        b"{\"key_hex\":\"6b31\",\"value\":\"v\"}\n{\"key\":\"k2\",\"value_hex\":\"0g\"}\n{}";
    let got = pairs(json_lines::from_bytes(input, None));
    assert_eq!(got[0], pair("k1", "v"));
    assert!(got[1].1.contains("value_hex"), "{got:?}");
    assert!(got[2].1.contains("--key"), "{got:?}");
}
