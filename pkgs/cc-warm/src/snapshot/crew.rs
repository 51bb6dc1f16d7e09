//! Threads that work on jobs in parallel while their results are taken in the jobs' order, with a bound on how many
//! are between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Jobs that are between the one whose result is due and the last one handed in.
const WINDOW: u64 = 256;
/// How often the lead is told that time passes.
const TICK: Duration = Duration::from_millis(25);

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
    /// Asks all who have nothing else to do to assist.
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

/// The number of a job, and of the part of it that it is.
type Number = (u64, u32);

/// What a job, or a part of one, gave.
struct Given<R> {
    result: R,
    /// Whether the job goes on in another part.
    split: bool,
}

struct State<J, R> {
    queue: VecDeque<(Number, J)>,
    results: BTreeMap<Number, Given<R>>,
    calls: Vec<Arc<dyn Assist>>,
    running: usize,
    /// Threads that wait for something to do.
    idle: usize,
    /// The job whose result the lead waits for.
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
    due: Number,
    taken: Vec<R>,
    ticked: Instant,
}

impl<J, R> Lead<'_, J, R> {
    /// Hands in a job.
    pub(super) fn submit(&mut self, job: J) -> Result<()> {
        self.make_room()?;
        let mut state = self.shared.lock();
        state.queue.push_back(((self.handed_in, 0), job));
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
        self.shared.lock().results.insert((self.handed_in, 0), Given { result, split: false });
        self.handed_in += 1;
        Ok(())
    }

    /// Takes results when the window is full: half of it at once, so that neither side waits for the other each time.
    fn make_room(&mut self) -> Result<()> {
        if self.handed_in - self.due.0 < WINDOW { Ok(()) } else { self.drain(WINDOW / 2) }
    }

    /// Takes results until at most `left` are outstanding.
    fn drain(&mut self, left: u64) -> Result<()> {
        loop {
            let mut state = self.shared.lock();
            if state.stop {
                return Err(state.failed.take().unwrap_or_else(|| anyhow!("the work was given up")));
            }
            while let Some(given) = state.results.remove(&self.due) {
                let (job, part) = self.due;
                self.due = if given.split { (job, part + 1) } else { (job + 1, 0) };
                self.taken.push(given.result);
            }
            if !self.taken.is_empty() {
                drop(state);
                for result in self.taken.drain(..) {
                    (self.take)(result)?;
                }
                continue;
            }
            if self.handed_in - self.due.0 <= left {
                return Ok(());
            }
            // The last one that is wanted comes when most before it are there; then those that are not, one by one.
            let last = self.handed_in - left - 1;
            let is_there = state.results.range((last, 0)..=(last, u32::MAX)).any(|(_, given)| !given.split);
            state.awaited = Some(if is_there { self.due.0 } else { last });
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
    work: impl Fn(J, &mut T, Crew<'_>, &mut Part<'_, J, R>) -> Result<R> + Sync,
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
        let mut head = Lead { shared: &shared, take, tick, handed_in: 0, due: (0, 0), taken: Vec::new(), ticked };
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

/// One who works on a job, to whom it may turn out to be too much.
pub(super) struct Part<'a, J, R> {
    shared: &'a Shared<J, R>,
    number: Number,
    split: bool,
}

impl<J, R> Part<'_, J, R> {
    /// Leaves the rest of the job to whoever comes next; what this part gives is taken before what that one gives. Only
    /// once a part.
    pub(super) fn leave(&mut self, rest: J) {
        debug_assert!(!self.split, "a part is split once");
        self.split = true;
        let (job, part) = self.number;
        let mut state = self.shared.lock();
        state.queue.push_front(((job, part + 1), rest));
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
    }
}

enum Task<J> {
    Job(Number, J),
    Assist(Arc<dyn Assist>),
}

fn thread<J: Send, R: Send, T: Tools>(
    shared: &Shared<J, R>,
    work: &(impl Fn(J, &mut T, Crew<'_>, &mut Part<'_, J, R>) -> Result<R> + Sync),
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
                let mut part = Part { shared, number, split: false };
                let result = work(job, &mut tools, Crew(shared), &mut part);
                let split = part.split;
                state = shared.lock();
                state.running -= 1;
                match result {
                    Ok(result) => {
                        state.results.insert(number, Given { result, split });
                        if state.awaited == Some(number.0) {
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
        // Two who write to one file wait for each other; to two files, they do not.
        if let Some((number, job)) = state.queue.pop_front() {
            state.running += 1;
            return Some(Task::Job(number, job));
        }
        if let Some(job) = state.calls.first() {
            return Some(Task::Assist(Arc::clone(job)));
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
#[path = "crew_tests.rs"]
mod tests;
