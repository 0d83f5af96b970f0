// Bundles the bench of the monitors and runs it: `node bench/conditions.mjs [--quick]`; see README.md.
import { runBundled } from "./bundled.mjs"

await runBundled("conditions.ts")
