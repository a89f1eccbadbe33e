//! Lets a host interrupt a blocking call, such as Python's Ctrl-C.

use std::cell::RefCell;
use std::time::Duration;

use crate::base::{Error, Result, Status};

/// A blocking call never sleeps longer than this without asking whether it was interrupted.
pub const SLICE: Duration = Duration::from_millis(50);

type Check = Box<dyn Fn() -> bool>;

thread_local! {
    static CHECK: RefCell<Option<Check>> = const { RefCell::new(None) };
}

/// Runs `f`; while it blocks in a ringkv call, `check` is asked every 50 ms on this thread. Once
/// it returns true the call ends with `Status::Aborted` (a write may then have taken effect).
pub fn with_interrupt<R>(check: impl Fn() -> bool + 'static, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Check>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            CHECK.with(|slot| *slot.borrow_mut() = before);
        }
    }
    let before = CHECK.with(|slot| slot.borrow_mut().replace(Box::new(check)));
    let _restore = Restore(before);
    f()
}

/// Asked by every wait of this crate between two slices.
pub(crate) fn poll_interrupt() -> Result<()> {
    let interrupted = CHECK.with(|slot| slot.borrow().as_ref().is_some_and(|check| check()));
    match interrupted {
        true => Err(Error::new(Status::Aborted, "interrupted; a write may have taken effect")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_scoped_and_nests() {
        assert!(poll_interrupt().is_ok());
        with_interrupt(
            || true,
            || {
                assert_eq!(poll_interrupt().unwrap_err().status(), Status::Aborted);
                with_interrupt(|| false, || assert!(poll_interrupt().is_ok()));
                assert!(poll_interrupt().is_err());
            },
        );
        assert!(poll_interrupt().is_ok());
    }
}
