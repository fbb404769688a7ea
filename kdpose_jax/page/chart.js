/* Draws curves over the frames of a clip, with a line at the frame that is shown. */

/** A round number (1, 2 or 5 times a power of ten) that divides `reach` into `parts` or fewer. */
function roundStep(reach, parts) {
  const power = 10 ** Math.floor(Math.log10(reach / parts));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => reach / step <= parts);
}

/** Where plots and the slider begin and end in a canvas, CSS pixels. */
function plotOf(canvas, look) {
  const [right, bottom] = [canvas.clientWidth - 4, canvas.clientHeight - 20];
  return { left: look.axis, right, top: 8, bottom };
}

/** One figure with a heading, the values at the frame, and a canvas. */
class Chart {
  /**
   * @param unit what stands after a value
   * @param digits of a value after the point
   * @param steps distances of the axis's lines; null for round ones, on an axis that begins at 0
   */
  constructor(figure, { unit, digits, steps }) {
    this.canvas = figure.querySelector("canvas");
    this.values = figure.querySelector(".values");
    Object.assign(this, { unit, digits, steps, curves: [] });
  }

  /**
   * Takes other curves.
   *
   * @param curves each is {name, colour, dashes, values}; one without a name has no value shown
   * @param scene the clip's scene
   */
  show(curves, scene) {
    this.curves = curves.filter((curve) => curve.values.some(Number.isFinite));
    this.scene = scene;
    const ends = this.curves.flatMap(({ values }) => [quantile(values, 0), quantile(values, 1)]);
    const [low, high] = [this.steps ? Math.min(...ends) : 0, Math.max(...ends)];
    const lines = (step) => Math.ceil(high / step) - Math.floor(low / step);
    this.step = this.steps
      ? this.steps.find((step) => lines(step) <= 4) || this.steps.at(-1)
      : roundStep(Math.max(high, 0.1), 4);
    this.low = Math.floor(low / this.step) * this.step;
    this.high = Math.max(Math.ceil(high / this.step) * this.step, this.low + this.step);
  }

  /** Draws axes and curves into a picture of their own, which each frame shows again. */
  render(look) {
    this.look = look;
    const context = contextOf(this.canvas);
    if (!this.curves.length || !this.canvas.width || !this.canvas.height) return;
    this.drawAxes(context);
    const { bottom, top } = plotOf(this.canvas, look);
    const up = (value) => bottom - ((bottom - top) * (value - this.low)) / (this.high - this.low);
    for (const { colour, dashes, values } of this.curves) {
      context.strokeStyle = look[colour];
      context.lineWidth = dashes.length ? 1.2 : 1.8;
      context.setLineDash(dashes);
      strokeThrough(context, Array.from(values, (value, frame) => (
        Number.isFinite(value) ? [this.across(frame), up(value)] : null)));
    }
    context.setLineDash([]);
    this.picture = document.createElement("canvas");
    Object.assign(this.picture, { width: this.canvas.width, height: this.canvas.height });
    this.picture.getContext("2d").drawImage(this.canvas, 0, 0);
  }

  /** The x of a frame. */
  across(frame) {
    const { left, right } = plotOf(this.canvas, this.look);
    return left + (right - left) * (frame / Math.max(1, this.scene.frames - 1));
  }

  /** The frame at an x. */
  frameAt(x) {
    const { left, right } = plotOf(this.canvas, this.look);
    return Math.round(((x - left) / (right - left)) * (this.scene.frames - 1));
  }

  drawAxes(context) {
    const { left, right, top, bottom } = plotOf(this.canvas, this.look);
    const { frames, fps, stride } = this.scene;
    context.font = `11px ${this.look.typeface}`;
    context.fillStyle = this.look.quiet;
    context.strokeStyle = this.look.line;
    context.lineWidth = 1;
    context.textAlign = "right";
    for (let value = this.low; value < this.high + this.step / 2; value += this.step) {
      const y = bottom - ((bottom - top) * (value - this.low)) / (this.high - this.low);
      strokeThrough(context, [[left, y], [right, y]]);
      context.fillText(Number(value.toPrecision(4)), left - 8, y + 4);
    }
    context.textAlign = "center";
    const seconds = ((frames - 1) * stride) / fps;
    const pace = roundStep(Math.max(seconds, 1e-3), Math.max(2, (right - left) / 90));
    for (let time = 0; time <= seconds; time += pace) {
      const x = this.across((time * fps) / stride);
      context.fillText(`${Number(time.toPrecision(4))} s`, Math.min(x, right - 12), bottom + 15);
    }
  }

  /** Marks a frame, and writes the values there. */
  mark(frame) {
    if (!this.curves.length || !this.picture) return;
    const context = contextOf(this.canvas);
    context.drawImage(this.picture, 0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    const { top, bottom } = plotOf(this.canvas, this.look);
    context.strokeStyle = this.look.ink;
    context.lineWidth = 1;
    strokeThrough(context, [[this.across(frame), top - 4], [this.across(frame), bottom]]);
    this.values.replaceChildren(...this.curves.filter(({ name }) => name).map((curve) => {
      const text = document.createElement("span");
      const value = curve.values[frame];
      const written = Number.isFinite(value) ? value.toFixed(this.digits) + this.unit : "–";
      text.className = `of-${curve.colour}`;
      text.textContent = `${curve.name} ${written}`;
      return text;
    }));
  }
}
