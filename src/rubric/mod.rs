//! From a task and a response to a judge prompt, and from the judge's text to a verdict.
