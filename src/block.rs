//! Running an asynchronous part of the program to its end.

use futures::future::LocalBoxFuture;
use tokio::runtime::Runtime;

/// Blocks until the future is done. It comes boxed: `Runtime::block_on` has six forms of each future, and each form would
/// be compiled with a copy of all that the future calls.
pub fn on<T>(runtime: &Runtime, future: LocalBoxFuture<'_, T>) -> T {
    runtime.block_on(future)
}
