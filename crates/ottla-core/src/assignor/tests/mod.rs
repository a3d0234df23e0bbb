//! The rules of groups.md §8 by name, and properties that hold for any group.

mod best;
mod cooperative;
mod own;
mod properties;
mod rack_aware;
mod range;
mod round_robin;
mod settled;
mod sticky;
mod sticky_generations;
mod support;
mod user_data;
