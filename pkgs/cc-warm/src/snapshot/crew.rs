//! Threads that work on jobs in parallel while their results are taken in the jobs' order, with a bound on how many
//! are between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Jobs that are between the one whose result is due and the last one handed in.
const WINDOW: u64 = 256;
/// How often the lead is told that time passes.
const TICK: Duration = Duration::from_millis(200);

/// A job so large that all threads should work on it.
pub(super) trait Assist: Send + Sync {
    /// Works on it until nothing of it is left to begin.
    fn assist(&self, buffer: &mut Vec<u8>);
}

trait Board: Sync {
    fn call(&self, job: Arc<dyn Assist>);
    fn dismiss(&self, job: &Arc<dyn Assist>);
}

/// The others, seen from one thread.
#[derive(Clone, Copy)]
pub(super) struct Crew<'a>(&'a dyn Board);

impl Crew<'_> {
    /// Asks all who are between two jobs to assist.
    pub(super) fn call(&self, job: Arc<dyn Assist>) {
        self.0.call(job);
    }

    /// No help is needed any more.
    pub(super) fn dismiss(&self, job: &Arc<dyn Assist>) {
        self.0.dismiss(job);
    }
}

/// What each thread has of its own.
pub(super) trait Tools: Default {
    /// The buffer that it lends when it assists.
    fn buffer(&mut self) -> &mut Vec<u8>;
}

struct State<J, R> {
    queue: VecDeque<(u64, J)>,
    results: BTreeMap<u64, R>,
    calls: Vec<Arc<dyn Assist>>,
    running: usize,
    /// Threads that wait for something to do.
    idle: usize,
    /// The result that the lead waits for.
    awaited: Option<u64>,
    closed: bool,
    failed: Option<anyhow::Error>,
    stop: bool,
}

struct Shared<J, R> {
    state: Mutex<State<J, R>>,
    work: Condvar,
    result: Condvar,
}

impl<J, R> Shared<J, R> {
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: anyhow::Error) {
        let mut state = self.lock();
        state.failed.get_or_insert(error);
        state.stop = true;
        drop(state);
        self.work.notify_all();
        self.result.notify_all();
    }
}

impl<J: Send, R: Send> Board for Shared<J, R> {
    fn call(&self, job: Arc<dyn Assist>) {
        self.lock().calls.push(job);
        self.work.notify_all();
    }

    fn dismiss(&self, job: &Arc<dyn Assist>) {
        self.lock().calls.retain(|call| !Arc::ptr_eq(call, job));
    }
}

/// The one who hands in jobs and takes results.
pub(super) struct Lead<'a, J, R> {
    shared: &'a Shared<J, R>,
    take: &'a mut dyn FnMut(R) -> Result<()>,
    tick: &'a mut dyn FnMut() -> Result<()>,
    handed_in: u64,
    due: u64,
    taken: Vec<R>,
    ticked: Instant,
}

impl<J, R> Lead<'_, J, R> {
    /// Hands in a job.
    pub(super) fn submit(&mut self, job: J) -> Result<()> {
        self.make_room()?;
        let mut state = self.shared.lock();
        state.queue.push_back((self.handed_in, job));
        let wake = state.idle > 0;
        drop(state);
        self.handed_in += 1;
        if wake {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Hands in a result that needed no work; it is taken in its turn.
    pub(super) fn pass(&mut self, result: R) -> Result<()> {
        self.make_room()?;
        self.shared.lock().results.insert(self.handed_in, result);
        self.handed_in += 1;
        Ok(())
    }

    /// Takes results when the window is full: half of it at once, so that neither side waits for the other each time.
    fn make_room(&mut self) -> Result<()> {
        if self.handed_in - self.due < WINDOW { Ok(()) } else { self.drain(WINDOW / 2) }
    }

    /// Takes results until at most `left` are outstanding.
    fn drain(&mut self, left: u64) -> Result<()> {
        loop {
            let mut state = self.shared.lock();
            if state.stop {
                return Err(state.failed.take().unwrap_or_else(|| anyhow!("the work was given up")));
            }
            while let Some(result) = state.results.remove(&self.due) {
                self.due += 1;
                self.taken.push(result);
            }
            if !self.taken.is_empty() {
                drop(state);
                for result in self.taken.drain(..) {
                    (self.take)(result)?;
                }
                continue;
            }
            if self.handed_in - self.due <= left {
                return Ok(());
            }
            // The last one that is wanted comes when most before it are there; then those that are not, one by one.
            let last = self.handed_in - left - 1;
            state.awaited = Some(if state.results.contains_key(&last) { self.due } else { last });
            let (mut state, _) = self.shared.result.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            state.awaited = None;
            drop(state);
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                (self.tick)()?;
            }
        }
    }
}

/// Ends all threads when the lead ends, however it does, and when one of them panics.
struct Ending<'a, J, R>(&'a Shared<J, R>);

impl<J, R> Drop for Ending<'_, J, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(anyhow!("a thread panicked"));
        }
    }
}

/// Runs `lead` on this thread and `work` on `threads` others; `take` gets the results in order, and `tick` is called
/// while there is nothing to do but wait.
pub(super) fn run<J: Send, R: Send, T: Tools>(
    threads: usize,
    work: impl Fn(J, &mut T, Crew<'_>) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
    mut tick: impl FnMut() -> Result<()>,
    lead: impl FnOnce(&mut Lead<'_, J, R>) -> Result<()>,
) -> Result<()> {
    let shared = Shared {
        state: Mutex::new(State {
            queue: VecDeque::new(),
            results: BTreeMap::new(),
            calls: Vec::new(),
            running: 0,
            idle: 0,
            awaited: None,
            closed: false,
            failed: None,
            stop: false,
        }),
        work: Condvar::new(),
        result: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let _ending = Ending(&shared);
                thread(&shared, &work);
            });
        }
        let _ending = Ending(&shared);
        let (take, tick, ticked) = (&mut take, &mut tick, Instant::now());
        let mut head = Lead { shared: &shared, take, tick, handed_in: 0, due: 0, taken: Vec::new(), ticked };
        let mut result = lead(&mut head);
        shared.lock().closed = true;
        shared.work.notify_all();
        if result.is_ok() {
            result = head.drain(0);
        }
        if let Err(error) = result {
            shared.fail(error);
        }
    });
    match shared.lock().failed.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

enum Task<J> {
    Job(u64, J),
    Assist(Arc<dyn Assist>),
}

fn thread<J: Send, R: Send, T: Tools>(
    shared: &Shared<J, R>,
    work: &(impl Fn(J, &mut T, Crew<'_>) -> Result<R> + Sync),
) {
    let mut tools = T::default();
    let mut state = shared.lock();
    while let Some(task) = next(shared, state) {
        match task {
            Task::Assist(job) => {
                job.assist(tools.buffer());
                shared.dismiss(&job);
                state = shared.lock();
            }
            Task::Job(number, job) => {
                let result = work(job, &mut tools, Crew(shared));
                state = shared.lock();
                state.running -= 1;
                match result {
                    Ok(result) => {
                        state.results.insert(number, result);
                        if state.awaited == Some(number) {
                            shared.result.notify_one();
                        }
                    }
                    Err(error) => {
                        drop(state);
                        shared.fail(error);
                        return;
                    }
                }
                if state.closed && state.running == 0 && state.idle > 0 {
                    // The last one who could have asked for help is done.
                    shared.work.notify_all();
                }
            }
        }
    }
}

/// What is to be done next; `None` at the end. What is waited for comes with a wake-up only where somebody waits: each
/// costs a system call and a change of threads.
fn next<J, R>(shared: &Shared<J, R>, mut state: MutexGuard<'_, State<J, R>>) -> Option<Task<J>> {
    loop {
        if state.stop {
            return None;
        }
        if let Some(job) = state.calls.first() {
            return Some(Task::Assist(Arc::clone(job)));
        }
        if let Some((number, job)) = state.queue.pop_front() {
            state.running += 1;
            return Some(Task::Job(number, job));
        }
        if state.closed && state.running == 0 {
            return None;
        }
        state.idle += 1;
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use anyhow::bail;

    use super::*;

    #[derive(Default)]
    struct Buffer(Vec<u8>);

    impl Tools for Buffer {
        fn buffer(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }
    }

    #[test]
    fn takes_results_in_the_order_of_their_jobs() {
        let mut taken = Vec::new();
        let work = |job: u64, _: &mut Buffer, _: Crew<'_>| Ok(job * 2);
        let push = |result| {
            taken.push(result);
            Ok(())
        };
        run(
            3,
            work,
            push,
            || Ok(()),
            |lead| {
                for job in 0..2000 {
                    if job % 3 == 0 { lead.pass(job * 2)? } else { lead.submit(job)? }
                }
                Ok(())
            },
        )
        .unwrap();
        assert!(taken.into_iter().eq((0..2000).map(|job| job * 2)));
    }

    #[test]
    fn ends_with_the_first_failure_wherever_it_is() {
        let fail_at = |at: &'static str| {
            let work = move |_: u64, _: &mut Buffer, _: Crew<'_>| {
                if at == "work" {
                    bail!("work failed")
                }
                Ok(1)
            };
            let take = move |_| {
                if at == "take" {
                    bail!("take failed")
                }
                Ok(())
            };
            let error = run(
                2,
                work,
                take,
                || Ok(()),
                |lead| {
                    for job in 0..1000 {
                        lead.submit(job)?;
                    }
                    if at == "lead" {
                        bail!("lead failed")
                    }
                    Ok(())
                },
            );
            error.unwrap_err().to_string()
        };
        for at in ["work", "take", "lead"] {
            assert_eq!(fail_at(at), format!("{at} failed"));
        }
    }

    #[test]
    fn all_assist_with_a_large_job() {
        struct Large(AtomicU64);
        impl Assist for Large {
            fn assist(&self, _: &mut Vec<u8>) {
                // Whoever comes waits for the other: it ends only if two do.
                self.0.fetch_add(1, Ordering::SeqCst);
                while self.0.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
            }
        }
        let work = |(): (), _: &mut Buffer, crew: Crew<'_>| {
            let large: Arc<dyn Assist> = Arc::new(Large(AtomicU64::new(0)));
            crew.call(Arc::clone(&large));
            large.assist(&mut Vec::new());
            crew.dismiss(&large);
            Ok(())
        };
        run(2, work, |()| Ok(()), || Ok(()), |lead| lead.submit(())).unwrap();
    }
}
