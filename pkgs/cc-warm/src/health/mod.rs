//! The gate after: is the app healthy, and does it stay so?
//!
//! A *round* asks the deployer how far the app is, then all probes at once. Healthy means: `successes` rounds in a row
//! pass, then none fails during `soak`. A round that fails begins the row anew, and the soak with it, until `deadline`
//! leaves no time for another proof. A process that died ends it at once.
//!
//! Time in which nothing can be known of the app is not the app's: a deployer that is not ready, or a predecessor
//! (`after`) that fails its own probes, stops the deadline and the soak. When it lasts for another `deadline` in all,
//! the answer is [`DeployError::NotReady`], which is no verdict on the app.

pub mod continuity;
pub mod course;
pub mod probe;
mod report;
mod wait;

pub use self::continuity::{Continuity, continuity};
pub use self::course::Rules;
pub use self::probe::{Answer, Condition};
pub use self::report::{Phase, Progress, Report, Verdict};
pub use self::wait::{Watch, before_update, check_now, wait};
