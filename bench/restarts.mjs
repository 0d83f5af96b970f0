// Answers over servers that restart all the time: `node bench/restarts.mjs`.
import { runBundled } from "./bundled.mjs"

await runBundled("restarts.ts")
