"""What tests and benchmarks share: servers, jobs, events and models. Import it as `tests.support` from every folder."""
