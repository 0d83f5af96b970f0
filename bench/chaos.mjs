// Bundles the chaos suite and runs it: `node bench/chaos.mjs [--seed 1] [--streams 500] [--calls 500] …`; see README.md.
import { join } from "node:path"
import { runBundled } from "./bundled.mjs"

await runBundled(join("chaos", "run.ts"))
