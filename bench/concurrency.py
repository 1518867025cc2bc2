"""Predictions per second when several Python threads share one network.

    python bench/concurrency.py --threads all --quick

Every Python thread calls `predict` of the same network again and again on its own rows, and each
call uses one thread (`n_threads=1`).  Small calls keep the interpreter's lock, since releasing it
would cost more than it gains; larger ones let others run.
"""

import threading
import time

import common
import numpy as np

import fastbp as fb

CASES = [([64, 64, 64, 8], 1), ([784, 100, 10], 1), ([784, 100, 10], 64), ([784, 100, 10], 1024)]
CALLERS = (1, 2, 4, 8)


def main():
    arguments = common.begin(common.parser(__doc__))
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    seconds = 0.1 if arguments.quick else 1.0
    results, rows = [], []
    for sizes, n_rows in CASES:
        net = fb.mlp(sizes, dtype=arguments.dtype, seed=0)
        X = np.random.default_rng(0).random((n_rows, sizes[0])).astype(arguments.dtype)
        rates = {
            n: max(calls_per_second(net, X, n, seconds) for _ in range(min(arguments.rounds, 5)))
            for n in CALLERS
        }
        results.append({"network": sizes, "rows": n_rows, "rates": rates})
        rows.append([f"{'-'.join(map(str, sizes))}, {n_rows} row{'s' * (n_rows > 1)}",
                     *(f"{rates[n]:,.0f}" for n in CALLERS)])
    common.table("calls of predict per second, by Python threads",
                 ["", *(f"{n} thread{'s' * (n > 1)}" for n in CALLERS)], rows, arguments.markdown)
    common.save(arguments, "concurrency", {"machine": machine, "results": results}, chart)


def calls_per_second(net, X, callers, seconds):
    """Of all threads together; their outputs must equal those of one thread alone."""
    expected = net.predict(X).tobytes()
    begin, end, calls, wrong = threading.Event(), threading.Event(), [0] * callers, []

    def call(i):
        rows, n = X.copy(), 0
        Z = net.predict(rows)
        begin.wait()
        while not end.is_set():
            for _ in range(10):
                Z = net.predict(rows, n_threads=1)
            n += 10
        calls[i] = n
        if Z.tobytes() != expected:
            wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    begin.set()
    time.sleep(seconds)
    end.set()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if wrong:
        raise SystemExit(f"{len(wrong)} of {callers} threads got other bits")
    return sum(calls) / elapsed


def chart(results):
    """Each case's rate, by threads."""
    def draw(plt):
        figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for result in results["results"]:
            n = result["rows"]
            axes.plot(CALLERS, list(result["rates"].values()), "o-",
                      label=f"{'-'.join(map(str, result['network']))}, {n} row{'s' * (n > 1)}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(CALLERS, [str(n) for n in CALLERS])
        axes.set_xlabel("Python threads")
        axes.set_ylabel("calls of predict per second")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    return draw


if __name__ == "__main__":
    main()
