/** Ends `aicortex run` with why a model could not be started. */
import * as Effect from "effect/Effect"
import { SupervisorUnavailable } from "../../Errors.js"
import { errorOf } from "../../supervisor/client.js"
import type { Answer, NoAnswer } from "../../supervisor/controlRequests.js"
import { runShape } from "../local.js"
import { runProgram } from "../program.js"

export const fail = (answer: Answer | NoAnswer): void => {
  const error = "reason" in answer ? new SupervisorUnavailable({ reason: answer.reason, log: [] }) : errorOf(answer)
  runProgram(Effect.fail(error), () => ({ path: ["run"], flags: runShape.flags, file: "" }))
}
