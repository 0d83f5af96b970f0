/** Errors of calls that only remote servers could answer, which may not be asked. */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/** What a `Date` can hold: the message says it as one. */
const Moment = Schema.Number.pipe(Schema.between(-8.64e15, 8.64e15))

/**
 * The ceiling of tokens per day on remote servers (`remoteTokensPerDay`) is reached, and no local server has the model.
 * Nothing was sent. The day ends at midnight UTC.
 *
 * @since 0.2.0
 * @category errors
 */
export class RemoteTokensExhausted extends TaggedError<RemoteTokensExhausted>("aicortex/RemoteTokensExhausted")(
  "RemoteTokensExhausted",
  {
    /** The name that was asked for. */
    model: Schema.String,
    /** How many tokens there may be. */
    limit: Schema.Number,
    /** How many there were. */
    used: Schema.Number,
    /** When the count begins again, in milliseconds since the epoch. */
    resetsAt: Moment
  }
) {
  override get message() {
    const what = this.model === "auto" ? "no model that suits it is" : `'${this.model}' is not`
    return (
      `Remote servers had ${this.used} tokens today, and may have ${this.limit} (remoteTokensPerDay), and ${what} on a ` +
      `local server. The count begins again at ${new Date(this.resetsAt).toISOString()}. Get the model on a local ` +
      "server, or raise the ceiling."
    )
  }
}

/**
 * The budget of remote servers for a day or a month (`remoteCostPerDay`, `remoteCostPerMonth`) is spent, and no local
 * server has the model. Nothing was sent. Days and months are those of UTC.
 *
 * @since 0.4.0
 * @category errors
 */
export class RemoteBudgetExhausted extends TaggedError<RemoteBudgetExhausted>("aicortex/RemoteBudgetExhausted")(
  "RemoteBudgetExhausted",
  {
    /** The name that was asked for. */
    model: Schema.String,
    /** Which budget: that of a day, or of a month. */
    period: Schema.Literal("day", "month"),
    /** What remote servers may cost. */
    limit: Schema.Number,
    /** What they cost so far. */
    spent: Schema.Number,
    /** The name of the currency. */
    currency: Schema.String,
    /** When the count begins again, in milliseconds since the epoch. */
    resetsAt: Moment
  }
) {
  override get message() {
    const what = this.model === "auto" ? "no model that suits it is" : `'${this.model}' is not`
    const setting = this.period === "day" ? "remoteCostPerDay" : "remoteCostPerMonth"
    return (
      `Remote servers have cost ${Number(this.spent.toPrecision(6))} ${this.currency} this ${this.period}, and may cost ` +
      `${this.limit} (${setting}), and ${what} on a local server. The count begins again at ` +
      `${new Date(this.resetsAt).toISOString()}. Get the model on a local server, or raise the budget.`
    )
  }
}

/**
 * Remote servers have a budget (`remoteCostPerDay`, `remoteCostPerMonth`), the model has no price, and no local server
 * has it. Nothing was sent.
 *
 * @since 0.4.0
 * @category errors
 */
export class ModelPriceUnknown extends TaggedError<ModelPriceUnknown>("aicortex/ModelPriceUnknown")(
  "ModelPriceUnknown",
  {
    /** The name that was asked for. */
    model: Schema.String
  }
) {
  override get message() {
    return (
      `Remote servers have a budget, and '${this.model}' has no price, so that what it costs would not be counted. Name ` +
      "its price in `prices`, 0 where it costs nothing, or get the model on a local server."
    )
  }
}
