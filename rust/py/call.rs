//! How a kernel is called from Python: a short one at once, a longer one without the GIL and in our
//! pool, a long one stoppable by Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;
use crate::pool::{self, Cancel};

/// A call of fewer steps is over before a thread of the pool has woken, and before another thread
/// of Python that takes the GIL would give it back.
const SHORT: usize = 1 << 14;
/// A call of fewer steps is over before a signal could be noticed.
const LONG: usize = 1 << 17;
/// How often a long call looks for signals.
const PATIENCE: Duration = Duration::from_millis(20);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::MixedIds { .. } | Error::UnsupportedIds { .. } => PyTypeError::new_err(message),
            Error::Interrupted => PyKeyboardInterrupt::new_err(message),
            Error::Panicked => PyRuntimeError::new_err(message),
            _ => PyValueError::new_err(message),
        }
    }
}

/// Runs `work`, which takes about `steps` steps: rows, or pairs of rows. It shares its work out by
/// [`pool::map_init`], which stays in this thread where the call is short.
pub(super) fn run<T: Send>(
    py: Python<'_>,
    steps: usize,
    work: impl FnOnce(&Cancel) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let cancel = Cancel::default();
    if steps < SHORT {
        let caught = catch_unwind(AssertUnwindSafe(|| work(&cancel)));
        return Ok(caught.unwrap_or(Err(Error::Panicked))?);
    }
    let pool = pool::current();
    let guarded = || {
        let caught = catch_unwind(AssertUnwindSafe(|| pool.install(|| work(&cancel))));
        caught.unwrap_or(Err(Error::Panicked))
    };
    if steps < LONG {
        return Ok(py.detach(guarded)?);
    }
    py.detach(|| {
        std::thread::scope(|scope| {
            let (done, result) = channel();
            // Sending fails only if nobody waits, and the loop below always does.
            scope.spawn(move || done.send(guarded()).is_ok());
            let mut signal = None;
            loop {
                match result.recv_timeout(PATIENCE) {
                    Ok(result) => return signal.map_or_else(|| Ok(result?), Err),
                    Err(RecvTimeoutError::Disconnected) => return Err(Error::Panicked.into()),
                    Err(RecvTimeoutError::Timeout) if signal.is_none() => {
                        signal = pending_signal();
                        if signal.is_some() {
                            cancel.cancel();
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    })
}

fn pending_signal() -> Option<PyErr> {
    Python::attach(|py| py.check_signals().err())
}

/// Locks what one call at a time may use.
pub(super) fn locked<T>(state: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    // Not `lock`: a thread that waits here would hold the GIL.
    state.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => PyRuntimeError::new_err("another thread is using this"),
        TryLockError::Poisoned(_) => PyRuntimeError::new_err("a call panicked before"),
    })
}
