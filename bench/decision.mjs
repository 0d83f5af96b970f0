// Bundles the bench of routing decisions and runs it: `node bench/decision.mjs [--quick]`; see README.md.
import { runBundled } from "./bundled.mjs"

await runBundled("decision.ts")
