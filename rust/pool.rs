//! Our own thread pool: rebuilt after fork, sized by `GSPO_RS_THREADS` or the cgroup.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;

/// The pool, and the process it was built in: threads do not survive a fork.
static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// The pool of this process.
///
/// Call it with the GIL held: then no fork made from Python can catch the lock taken.
///
/// # Panics
/// If the operating system starts no thread.
pub fn current() -> Arc<ThreadPool> {
    let pid = std::process::id();
    let mut slot = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match slot.take() {
        Some((owner, pool)) if owner == pid => {
            *slot = Some((pid, Arc::clone(&pool)));
            pool
        }
        parent => {
            // Dropping the parent's pool would wait for threads that do not exist here.
            std::mem::forget(parent);
            let pool = Arc::new(build());
            *slot = Some((pid, Arc::clone(&pool)));
            pool
        }
    }
}

fn build() -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(threads())
        .thread_name(|i| format!("gspo-rs-{i}"))
        .build()
        .expect("the operating system starts threads")
}

/// `GSPO_RS_THREADS` where it is a positive number, else what the cgroup and affinity allow.
fn threads() -> usize {
    let asked = std::env::var("GSPO_RS_THREADS")
        .ok()
        .and_then(|text| text.parse().ok());
    let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.filter(|&n: &usize| n > 0).unwrap_or_else(allowed)
}

/// What `work` makes of the items, in their order, or its first error; `init` makes what a worker
/// keeps from item to item.
///
/// In a pool the items are shared out. Outside of any they are done here, one after the other:
/// a short call is over before another thread has woken.
pub(crate) fn map_init<T: Send, S, R: Send>(
    items: impl Iterator<Item = T>,
    init: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, T) -> Result<R, Error> + Send + Sync,
) -> Result<Vec<R>, Error> {
    if rayon::current_thread_index().is_none() {
        let mut kept = init();
        return items.map(|item| work(&mut kept, item)).collect();
    }
    let items: Vec<T> = items.collect();
    items.into_par_iter().map_init(init, work).collect()
}

/// [`map_init`] where nothing is kept.
pub(crate) fn map<T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    work: impl Fn(T) -> Result<R, Error> + Send + Sync,
) -> Result<Vec<R>, Error> {
    map_init(items, || (), |(), item| work(item))
}

/// Rows between two looks at whether to stop; a power of two.
pub(crate) const CHECK_EVERY: usize = 1 << 16;

/// A flag that long work looks at, so that Ctrl-C is answered.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Error::Interrupted`] once someone has asked.
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }

    /// Grows or cuts `values` to `len`; new pages take their time.
    pub(crate) fn resize<T: Clone>(
        &self,
        values: &mut Vec<T>,
        len: usize,
        value: &T,
    ) -> Result<(), Error> {
        values.truncate(len);
        values.reserve_exact(len - values.len());
        while values.len() < len {
            self.check()?;
            values.resize(len.min(values.len() + CHECK_EVERY), value.clone());
        }
        Ok(())
    }
}
