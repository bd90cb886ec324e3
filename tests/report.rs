//! What a run leaves for people: numbers with intervals, event files, the metrics log and the page.

mod report {
    mod events;
    mod metrics;
    mod page;
    mod statistics;
    mod table;
    mod tensorboard;
}
