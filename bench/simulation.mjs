// Bundles the fleet simulation and runs it: `node bench/simulation.mjs [--servers 100] [--seeds 20] …`; see README.md.
import { join } from "node:path"
import { root, runBundled } from "./bundled.mjs"

await runBundled(join("simulation", "run.ts"), { BENCH_SVG: join(root, "bench", "simulation.svg") })
