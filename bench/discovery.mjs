// Bundles the bench of discovery and runs it: `node bench/discovery.mjs [--quick]`; see README.md.
import { runBundled } from "./bundled.mjs"

await runBundled("discovery.ts")
