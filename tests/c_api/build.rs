//! Compiles C programs against the library under test, and runs them.

#![allow(dead_code, reason = "each of the tests that share it uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How a program is compiled.
#[derive(Clone, Copy, Debug)]
pub enum Variant {
    C99,
    C11,
    Cxx17,
    /// C11 with the address and the undefined-behaviour sanitizer.
    Sanitized,
}

/// A source file, and others that belong to it.
pub struct Program {
    source: PathBuf,
    parts: Vec<PathBuf>,
}

/// A program that was compiled.
pub struct Executable {
    path: PathBuf,
}

/// The root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library that cargo built together with this test.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let deps = test.parent().expect("it is in a folder");
    let library = deps.join("libringkv.so");
    assert!(library.exists(), "cargo builds {} before the tests", library.display());
    library
}

/// A folder of this run, with the library under the names that programs look for.
pub fn workspace() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        std::fs::create_dir_all(&folder).expect("cargo's folder for tests can be written");
        for name in ["libringkv.so", "libringkv.so.0"] {
            let link = folder.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(library(), &link).expect("a link can be made there");
        }
        folder
    })
}

impl Program {
    /// The program in that file.
    pub fn at(source: &Path) -> Self {
        Self { source: source.to_path_buf(), parts: Vec::new() }
    }

    /// The program is linked with that file too.
    pub fn with(mut self, part: &Path) -> Self {
        self.parts.push(part.to_path_buf());
        self
    }

    /// Compiles it; every warning is an error.
    pub fn compile(&self, variant: Variant) -> Executable {
        let name = self.source.file_stem().expect("a file has a name").to_string_lossy();
        let path = workspace().join(format!("{name}-{variant:?}"));
        let (compiler, flags): (_, &[&str]) = match variant {
            Variant::C99 => (tool("CC", "cc"), &["-std=c99", "-O2"]),
            Variant::C11 => (tool("CC", "cc"), &["-std=c11", "-O1"]),
            Variant::Cxx17 => (tool("CXX", "c++"), &["-std=c++17", "-x", "c++"]),
            Variant::Sanitized => (
                tool("CC", "cc"),
                &["-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
            ),
        };
        let mut command = Command::new(compiler);
        command.args(flags).args(["-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]);
        command.arg("-D_POSIX_C_SOURCE=200809L").arg("-I").arg(root().join("include"));
        command.arg(&self.source).args(&self.parts).arg("-o").arg(&path);
        command.args(["-x", "none"]).arg("-L").arg(workspace()).arg("-lringkv");
        run(command.arg(format!("-Wl,-rpath,{}", workspace().display())));
        Executable { path }
    }
}

impl Executable {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it; it must end with 0. Returns what it printed.
    pub fn run(&self) -> String {
        run(Command::new(&self.path).env("ASAN_OPTIONS", "detect_leaks=1"))
    }

    /// Runs it under valgrind, where that is installed; no error and no leak is let pass.
    pub fn run_in_valgrind(&self) {
        let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            println!("valgrind is not installed: this part of the test is left out");
            return;
        }
        let flags = ["--quiet", "--error-exitcode=9", "--leak-check=full"];
        run(Command::new("valgrind")
            .args(flags)
            .arg("--errors-for-leak-kinds=definite")
            .arg(&self.path));
    }
}

/// Runs a command that must end with 0, and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}

fn tool(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.into())
}
