//! Ctrl-C and SIGTERM: a command ends in order, and a second one ends it at once.
//!
//! The first signal sets a flag that every blocking ringkv call asks (see
//! [`with_interrupt`](crate::with_interrupt)) and wakes [`Signals::wait`]. The second one does what
//! it would have done without us, so that a command that hangs can always be stopped.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Whether somebody asked this process to stop. Clones share it.
#[derive(Clone, Default)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Whether somebody did.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Our signal handlers; dropping this removes them.
pub struct Signals {
    interrupted: Interrupted,
    wakes: UnixStream,
    waker: UnixStream,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM.
    pub fn install() -> io::Result<Self> {
        let interrupted = Interrupted::default();
        let (wakes, waker) = UnixStream::pair()?;
        let mut signals = Self { interrupted, wakes, waker, handlers: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            let set = &signals.interrupted.0;
            // Handlers run in the order of their registration: asked before it is set, this one
            // acts from the second signal on.
            signals.handlers.push(flag::register_conditional_default(signal, Arc::clone(set))?);
            signals.handlers.push(flag::register(signal, Arc::clone(set))?);
            signals.handlers.push(low_level::pipe::register(signal, signals.waker.try_clone()?)?);
        }
        Ok(signals)
    }

    /// The flag, for other threads.
    pub fn interrupted(&self) -> Interrupted {
        self.interrupted.clone()
    }

    /// Blocks until a signal comes, or standard input ends if `stdin_too`.
    pub fn wait(&self, stdin_too: bool) -> io::Result<()> {
        if stdin_too {
            let mut waker = self.waker.try_clone()?;
            // Never joined: it ends with standard input or with the process.
            std::thread::Builder::new().name("ringkv-stdin".into()).spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                // Nobody waits any more if this fails.
                let _ = waker.write_all(b"e");
            })?;
        }
        let mut byte = [0];
        loop {
            match (&self.wakes).read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.handlers.drain(..) {
            low_level::unregister(id);
        }
    }
}
