//! Who cleans up, whatever becomes of the test.
//!
//! A shell of its own process group knows every process that was started and the prefix of every
//! network namespace. It waits at the end of a pipe from us. When that ends - the test is over, has
//! panicked, was interrupted or killed - it kills what is left, also what is stopped, and removes
//! the namespaces. There is no other way of cleaning up, so this one is used every time.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
prefix=$1 pids=' '
while read -r what pid; do
    case $what in
        born) pids="$pids$pid " ;;
        gone) case $pids in *" $pid "*) pids="${pids%% $pid *} ${pids#* $pid }" ;; esac ;;
    esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
command -v ip >/dev/null || exit 0
for name in $(ip netns list 2>/dev/null | cut -d ' ' -f 1); do
    case $name in "$prefix"*) ip netns del "$name" ;; esac
done
"#;

/// Clones are told of processes; the last one to go has everything cleaned up, and waits for it.
#[derive(Clone)]
pub struct Janitor(Arc<Inner>);

struct Inner {
    pipe: Mutex<Option<ChildStdin>>,
    shell: Child,
}

impl Janitor {
    /// Namespaces whose names begin with `prefix` are its business.
    pub fn start(prefix: &str) -> Janitor {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "janitor", prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell is there");
        let pipe = shell.stdin.take();
        Janitor(Arc::new(Inner { pipe: Mutex::new(pipe), shell }))
    }

    /// A process was started.
    pub fn born(&self, process: &Child) {
        self.tell(&format!("born {}\n", process.id()));
    }

    /// A process was waited for: its number may soon be somebody else's.
    pub fn gone(&self, process: &Child) {
        self.tell(&format!("gone {}\n", process.id()));
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.0.pipe.lock().unwrap();
        let pipe = pipe.as_mut().expect("it is open as long as there are clones");
        pipe.write_all(line.as_bytes()).expect("the janitor outlives us");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Also after a panic of somebody who held the lock.
        drop(self.pipe.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.shell.wait();
    }
}

#[test]
fn what_was_started_ends_with_the_janitor() {
    let mut sleeps = [(); 3].map(|()| Command::new("sleep").arg("1000").spawn().unwrap());
    let janitor = Janitor::start("no-such-namespace");
    sleeps.iter().for_each(|sleep| janitor.born(sleep));
    janitor.gone(&sleeps[1]);
    let stopped = Command::new("kill").args(["-STOP", &sleeps[2].id().to_string()]).status();
    assert!(stopped.unwrap().success());
    drop(janitor);
    assert!(!sleeps[0].wait().unwrap().success());
    assert!(!sleeps[2].wait().unwrap().success());
    assert!(sleeps[1].try_wait().unwrap().is_none(), "it was told that this one is gone");
    sleeps[1].kill().unwrap();
    sleeps[1].wait().unwrap();
}
