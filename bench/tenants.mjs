// One good API key beside an attacker: `node bench/tenants.mjs [--seconds 20] [--only floods,bodies]`; see README.md.
import { join } from "node:path"
import { runBundled } from "./bundled.mjs"

await runBundled(join("tenants", "run.ts"))
