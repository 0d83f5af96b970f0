/** What a conversation is asked with. */
import type { Settings } from "../chat"

export const unset: Settings = {
  system: "",
  temperature: "",
  topP: "",
  maxTokens: "",
  seed: "",
  think: "",
  tools: "",
  schema: ""
}

const Field = ({
  label,
  name,
  set,
  settings,
  ...rest
}: {
  readonly label: string
  readonly name: keyof Settings
  readonly settings: Settings
  readonly set: (settings: Settings) => void
  readonly min?: string
  readonly max?: string
  readonly step?: string
}) => (
  <label>
    {label}
    <input
      type="number"
      inputMode="decimal"
      placeholder="default"
      value={settings[name]}
      onInput={(event) => set({ ...settings, [name]: event.currentTarget.value })}
      {...rest}
    />
  </label>
)

const Slider = ({
  label,
  most,
  name,
  set,
  settings,
  start
}: {
  readonly label: string
  readonly name: keyof Settings
  readonly most: string
  /** Where it stands while nothing is chosen. */
  readonly start: string
  readonly settings: Settings
  readonly set: (settings: Settings) => void
}) => (
  <label>
    {label} <output>{settings[name] === "" ? "default" : settings[name]}</output>
    <input
      // The label is that of the first field in it, which is the output.
      aria-label={label}
      type="range"
      min="0"
      max={most}
      step="0.05"
      value={settings[name] === "" ? start : settings[name]}
      onInput={(event) => set({ ...settings, [name]: event.currentTarget.value })}
    />
  </label>
)

export const Options = ({
  set,
  settings
}: {
  readonly settings: Settings
  readonly set: (settings: Settings) => void
}) => {
  const text = (label: string, name: keyof Settings, rows: number, placeholder: string) => (
    <label>
      {label}
      <textarea
        rows={rows}
        spellcheck={false}
        placeholder={placeholder}
        value={settings[name]}
        onInput={(event) => set({ ...settings, [name]: event.currentTarget.value })}
      />
    </label>
  )
  return (
    <aside class="card options" aria-label="Options">
      {text("System prompt", "system", 3, "You are …")}
      <Slider label="Temperature" name="temperature" start="0.7" most="2" settings={settings} set={set} />
      <Slider label="Top P" name="topP" start="0.9" most="1" settings={settings} set={set} />
      <div class="two">
        <Field label="Max tokens" name="maxTokens" settings={settings} set={set} min="1" />
        <Field label="Seed" name="seed" settings={settings} set={set} />
        <label>
          Thinking
          <select value={settings.think} onChange={(event) => set({ ...settings, think: event.currentTarget.value })}>
            <option value="">default</option>
            <option value="none">off</option>
            <option value="low">low</option>
            <option value="medium">medium</option>
            <option value="high">high</option>
          </select>
        </label>
      </div>
      <details>
        <summary>Tools and JSON schema</summary>
        {text("Tools (JSON)", "tools", 4, '[{"type": "function", "function": {"name": "weather", …}}]')}
        {text("JSON schema of the answer", "schema", 4, '{"type": "object", "properties": …}')}
      </details>
      <button type="button" class="quiet small" onClick={() => set(unset)}>
        Reset the options
      </button>
    </aside>
  )
}
