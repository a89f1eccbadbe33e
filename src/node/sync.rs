//! The locks around what all threads of a node touch: replicas, leases, the map.
//!
//! With the feature `shuttle` they are that crate's, which tries one order of the threads after
//! the other (`interleavings.rs`). They work inside of its runs only.

#[cfg(not(feature = "shuttle"))]
pub(super) use parking_lot::{Mutex, RwLock};

#[cfg(feature = "shuttle")]
pub(super) use explored::{Mutex, RwLock};

#[cfg(feature = "shuttle")]
mod explored {
    use shuttle::sync;

    /// As `parking_lot`'s: a panic ends the run, so nobody meets a poisoned lock.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    #[derive(Debug, Default)]
    pub struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            Self(sync::RwLock::new(value))
        }

        pub fn read(&self) -> sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }
}
