// Hostile JSON Schemas against the gateway: `node bench/schemas.mjs [--seed 1] [--count 10000] …`; see README.md.
import { join } from "node:path"
import { runBundled } from "./bundled.mjs"

await runBundled(join("schemas", "run.ts"))
