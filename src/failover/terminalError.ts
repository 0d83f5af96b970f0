/** The error of a call with no server left and nothing emitted. */
import { AllServersFailed, type Attempt, EngineFailed, InvalidRequest, ModelPriceUnknown } from "../Errors.js"
import { limitError } from "../fleet/remoteLimit.js"
import * as Unsupported from "../internal/unsupported.js"
import type { Host } from "../Server.js"
import type { Dependencies } from "./call.js"

const wasNotAsked = ({ reason, status }: Attempt): boolean =>
  reason === "remote-limit" || (reason === "unsupported" && status === undefined)

/**
 * Passes the error to `fail`: a request that no server supports, a model that no server turned out to have,
 * remote servers that may not be asked any more today, engines of this machine of which none runs, or
 * `AllServersFailed`. `hosts` are the servers of the model as they are known now.
 */
export const terminalError = (
  model: string,
  attempts: ReadonlyArray<Attempt>,
  hosts: ReadonlyArray<Host>,
  dependencies: Pick<Dependencies, "exhausted" | "lacksPrice" | "missing" | "unreachable">,
  fail: (error: unknown) => void
): void => {
  const isRefused = attempts.some((a) => a.reason === "remote-limit")
  if (isRefused && attempts.every(wasNotAsked)) {
    const reached = dependencies.exhausted()
    const isUnpriced = hosts.some((host) => dependencies.lacksPrice?.(host.model) === true)
    if (reached !== undefined || isUnpriced) {
      fail(reached === undefined ? new ModelPriceUnknown({ model }) : limitError(reached, model))
      return
    }
  }
  const broken = hosts[0]?.server.engineFailure
  if (broken !== undefined && hosts.every(({ server }) => server.engineFailure !== undefined)) {
    fail(new EngineFailed({ model, ...broken }))
    return
  }
  const first = attempts[0]
  const all = (test: (attempt: Attempt) => boolean): boolean => attempts.every(test)
  if (first?.unsupported !== undefined && all((a) => a.unsupported !== undefined && a.status === undefined)) {
    fail(new InvalidRequest(Unsupported.invalid(first.unsupported)))
    return
  }
  if (first !== undefined && all((a) => a.reason === "model-not-found")) {
    dependencies.missing(model).then(fail, fail)
    return
  }
  const unreachable = dependencies.unreachable().filter(({ url }) => !attempts.some(({ server }) => server === url))
  // What no server of the model can do, it cannot do the next time either.
  if (first !== undefined && unreachable.length === 0 && all((a) => a.reason === "unsupported")) {
    fail(new InvalidRequest({ field: "model", reason: `'${model}': ${first.message}`, server: first.server }))
    return
  }
  fail(new AllServersFailed({ model, attempts, ...(unreachable.length === 0 ? {} : { unreachable }) }))
}
