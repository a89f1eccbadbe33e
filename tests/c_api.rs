//! The C interface as C and C++ programs see it.
//!
//! The programs of `tests/c` and `c_examples` are compiled with the system's compiler against
//! `include/ringkv.h` and the shared library that cargo built for this test, and run: as they
//! are, as C99, under the address and undefined-behaviour sanitizers, and under valgrind where
//! that is installed. `make header-check` holds the header against the Rust sources; here it is
//! held against the library.

#[path = "c_api/build.rs"]
mod build;
#[path = "c_api/layout.rs"]
mod layout;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use build::{Program, Variant, root, run, workspace};
use ringkv::ffi::status;

/// Names of the functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/ringkv.h")).expect("the header");
    let code = header.split("/* Short names").next().unwrap_or_default();
    let code = code.rsplit("#include").next().expect("the part after the manual");
    let mut names = BTreeSet::new();
    for line in code.lines().filter(|line| !line.starts_with([' ', '#', '/'])) {
        let before = line.split('(').next().unwrap_or_default();
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        if line.contains('(') && name.starts_with("ringkv_") {
            names.insert(name.to_string());
        }
    }
    names
}

#[test]
fn the_library_exports_what_the_header_declares_and_nothing_else() {
    let listed = std::fs::read_to_string(root().join("tests/c/exports.txt")).expect("the list");
    let listed: BTreeSet<String> = listed.lines().map(String::from).collect();
    assert_eq!(declared(), listed, "header against tests/c/exports.txt");
    assert!(listed.len() <= 40, "the interface stays small");

    let output = run(Command::new("nm").args(["-D", "--defined-only"]).arg(build::library()));
    let exported: BTreeSet<String> =
        output.lines().filter_map(|line| line.rsplit(' ').next()).map(String::from).collect();
    assert_eq!(exported, listed, "exports against tests/c/exports.txt");
}

#[test]
fn the_library_has_its_soname_and_stays_loaded() {
    let dynamic = run(Command::new("readelf").arg("-d").arg(build::library()));
    assert!(dynamic.contains("[libringkv.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

#[test]
fn the_version_of_the_header_is_that_of_the_crate() {
    let header = std::fs::read_to_string(root().join("include/ringkv.h")).expect("the header");
    let version = format!("#define RINGKV_VERSION_STRING \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(header.contains(&version), "cbindgen.toml and Cargo.toml name different versions");
}

#[test]
fn the_numbers_of_the_header_are_those_of_the_library() {
    let mut source = String::from("#include <ringkv.h>\n");
    for (name, code) in status::ALL {
        source += &format!("_Static_assert({name} == ({code}), \"{name}\");\n");
    }
    source += "int main(void) { return 0; }\n";
    let path = workspace().join("numbers.c");
    std::fs::write(&path, source).expect("the workspace can be written");
    Program::at(&path).compile(Variant::C11);
}

#[test]
fn both_sides_agree_on_sizes_and_offsets() {
    let path = root().join("tests/c/layout.c");
    let text = layout::as_c();
    if std::env::var_os("RINGKV_BLESS").is_some() {
        std::fs::write(&path, &text).expect("tests/c/layout.c can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("tests/c/layout.c");
    assert_eq!(committed, text, "a struct changed: that breaks every program built before");
    Program::at(&path).compile(Variant::C11);
    Program::at(&path).compile(Variant::Cxx17);
}

#[test]
fn the_header_alone_is_c99_c11_and_cxx17() {
    for (name, short) in [("alone", ""), ("alone_short", "#define RINGKV_SHORT_NAMES\n")] {
        let uses = "ringkv_node_options node = RINGKV_NODE_OPTIONS_INIT;\n\
            ringkv_connect_options connection = RINGKV_CONNECT_OPTIONS_INIT;\n\
            ringkv_read_options reading = RINGKV_READ_OPTIONS_INIT;\n\
            ringkv_write_options writing = RINGKV_WRITE_OPTIONS_INIT;\n\
            ringkv_scan_options scanning = RINGKV_SCAN_OPTIONS_INIT;\n\
            ringkv_change_options change = RINGKV_CHANGE_OPTIONS_INIT;\n\
            ringkv_events_options watching = RINGKV_EVENTS_OPTIONS_INIT;\n\
            ringkv_event event = RINGKV_EVENT_INIT;\n\
            ringkv_buf buf = RINGKV_BUF_INIT;\n\
            int main(void) { return 0; }\n";
        let path = workspace().join(format!("{name}.c"));
        std::fs::write(&path, format!("{short}#include <ringkv.h>\n#include <ringkv.h>\n{uses}"))
            .expect("the workspace can be written");
        for variant in [Variant::C99, Variant::C11, Variant::Cxx17] {
            Program::at(&path).compile(variant).run();
        }
    }
}

#[test]
fn the_program_in_the_manual_runs() {
    let header = std::fs::read_to_string(root().join("include/ringkv.h")).expect("the header");
    let manual = header.split("A complete program").nth(1).expect("the program's heading");
    let lines: Vec<&str> = manual
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix(" *").map(|rest| rest.strip_prefix("     ")))
        .map(|line| line.unwrap_or(""))
        .take_while(|line| !line.starts_with("CONCEPTS"))
        .collect();
    let end = lines.iter().rposition(|line| *line == "}").expect("the end of main");
    let path = workspace().join("manual.c");
    std::fs::write(&path, lines[..=end].join("\n") + "\n").expect("the workspace can be written");
    assert_eq!(Program::at(&path).compile(Variant::C11).run(), "hello\n");
}

#[test]
fn the_quick_start_runs() {
    let path = root().join("c_examples/quickstart.c");
    let lines = std::fs::read_to_string(&path).expect("the quick start").lines().count();
    assert!(lines <= 60, "the quick start has {lines} lines");
    // Not under valgrind, where a ring of 4096 partitions takes half a minute: `members.c` does the
    // same with 64.
    for variant in [Variant::C99, Variant::C11, Variant::Sanitized] {
        let printed = Program::at(&path).compile(variant).run();
        assert!(printed.contains("the planet is Saturn"), "{printed}");
    }
}

/// Compiles and runs a program in each variant, and under valgrind.
fn everywhere(path: &Path) {
    for variant in [Variant::C99, Variant::C11, Variant::Sanitized] {
        Program::at(path).compile(variant).run();
    }
    Program::at(path).compile(Variant::C11).run_in_valgrind();
}

fn test_program(name: &str) -> std::path::PathBuf {
    root().join("tests/c").join(name)
}

#[test]
fn wrong_arguments_get_a_status() {
    everywhere(&test_program("arguments.c"));
}

#[test]
fn stale_and_foreign_handles_get_a_status() {
    everywhere(&test_program("handles.c"));
}

#[test]
fn what_is_written_is_read_back() {
    everywhere(&test_program("data.c"));
}

#[test]
fn the_short_names_work() {
    everywhere(&test_program("short_names.c"));
}

#[test]
fn the_log_callback_is_called_replaced_and_cleared() {
    everywhere(&test_program("logging.c"));
}

#[test]
fn nodes_are_added_and_dropped() {
    everywhere(&test_program("members.c"));
}

#[test]
fn values_are_swapped_and_counted() {
    everywhere(&test_program("atomic.c"));
}

#[test]
fn crashes_are_told_and_what_is_lost_is_given_up() {
    // Not under valgrind, which makes a node so slow that the others take it for dead.
    for variant in [Variant::C99, Variant::C11, Variant::Sanitized] {
        Program::at(&test_program("crash.c")).compile(variant).run();
    }
}

#[test]
fn a_forked_child_gets_a_status() {
    // Not sanitized: the sanitizer's allocator does not let go of its own locks at a fork, and a
    // child that allocates then sometimes hangs.
    for variant in [Variant::C99, Variant::C11] {
        Program::at(&test_program("forked.c")).compile(variant).run();
    }
}

#[test]
fn a_handle_can_be_closed_under_the_feet_of_other_threads() {
    for variant in [Variant::C11, Variant::Sanitized] {
        Program::at(&test_program("closing.c")).compile(variant).run();
    }
}

#[test]
fn a_thousand_nodes_leave_nothing_behind() {
    println!("{}", Program::at(&test_program("cycles.c")).compile(Variant::C11).run());
}

#[test]
fn every_program_of_this_folder_is_run() {
    let source = include_str!("c_api.rs");
    for entry in std::fs::read_dir(root().join("tests/c")).expect("tests/c can be read") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(!name.ends_with(".c") || source.contains(&name), "{name} is not run");
    }
}
