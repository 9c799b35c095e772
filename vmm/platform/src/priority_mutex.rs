//! A mutex whose holder runs with the priority of whoever waits for it.
//!
//! The standard library's has no such thing: a thread of normal priority that is kept from running
//! while it holds one keeps a real-time thread waiting, for milliseconds on a busy machine.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Data behind a mutex with priority inheritance (`PTHREAD_PRIO_INHERIT`). Not poisoned by panics:
/// for data that is changed in whole steps.
pub struct PriorityMutex<T> {
    /// Boxed: it must not move once it is initialised.
    raw: Box<UnsafeCell<libc::pthread_mutex_t>>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached through the guard only, by one thread at a time; `T: Send` is what it
// takes to be handed from thread to thread.
unsafe impl<T: Send> Send for PriorityMutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PriorityMutex<T> {}

/// The data, locked.
pub struct PriorityGuard<'a, T> {
    mutex: &'a PriorityMutex<T>,
    /// Unlocking is for the thread that locked.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl<T> PriorityMutex<T> {
    /// # Errors
    /// The system knows no priority inheritance.
    pub fn new(data: T) -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        let raw = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        // SAFETY: `attributes` is initialised by the first call before it is used, and destroyed
        // once; `raw` stays where it is, and nobody else knows it yet.
        let results = unsafe {
            [
                libc::pthread_mutexattr_init(attributes.as_mut_ptr()),
                libc::pthread_mutexattr_setprotocol(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_PRIO_INHERIT,
                ),
                libc::pthread_mutex_init(raw.get(), attributes.as_ptr()),
                libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()),
            ]
        };
        match results.into_iter().find(|result| *result != 0) {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(Self { raw, data: UnsafeCell::new(data) }),
        }
    }

    /// Waits for the data.
    pub fn lock(&self) -> PriorityGuard<'_, T> {
        // SAFETY: initialised in `new`, and not moved since.
        let result = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        // It fails only for a thread that has it already, which is a bug worth stopping for.
        assert_eq!(result, 0, "a mutex was locked twice by one thread");
        PriorityGuard { mutex: self, _not_send: std::marker::PhantomData }
    }
}

impl<T> Drop for PriorityMutex<T> {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`; `&mut self` says that nobody has it.
        unsafe { libc::pthread_mutex_destroy(self.raw.get()) };
    }
}

impl<T> Deref for PriorityGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard's thread has the mutex.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T> DerefMut for PriorityGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard's thread has the mutex, and there is no other guard.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T> Drop for PriorityGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread locked it when the guard was made; a guard stays on its thread.
        unsafe { libc::pthread_mutex_unlock(self.mutex.raw.get()) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_thread_at_a_time_has_the_data() {
        let counter = Arc::new(PriorityMutex::new(0_u64).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter = counter.clone();
                std::thread::spawn(move || (0..10_000).for_each(|_| *counter.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*counter.lock(), 40_000);
    }

    #[test]
    fn a_panic_lets_go_of_it() {
        let data = Arc::new(PriorityMutex::new(1).unwrap());
        let shared = data.clone();
        let ended = std::thread::spawn(move || {
            let _guard = shared.lock();
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert_eq!(*data.lock(), 1);
    }
}
