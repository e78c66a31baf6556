// Several videos as one: one play, one pause, one place in time.

const DRIFT = 0.06; // seconds that a player may be off

export class Players {
  constructor(onTime) {
    this.elements = [];
    this.playing = false;
    this.rate = 1;
    this.time = 0;
    this.onTime = onTime;
    this.frame = 0;
    this.last = 0;
  }

  /** Take the elements; call again when one has learned its length. */
  use(elements) {
    this.elements = elements;
    for (const element of elements) {
      element.loop = false;
      element.addEventListener("loadedmetadata", () => this.onTime(this.time, this.length));
    }
  }

  get length() {
    return Math.max(0, ...this.elements.map((element) => (Number.isFinite(element.duration) ? element.duration : 0)));
  }

  play() {
    if (this.playing || !this.length) return;
    this.playing = true;
    if (this.time >= this.length - 0.02) this.time = 0;
    this.last = performance.now();
    for (const element of this.elements) this.start(element);
    this.frame = requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    this.playing = false;
    cancelAnimationFrame(this.frame);
    for (const element of this.elements) element.pause();
    this.seek(this.time);
  }

  /** Put every player at one time; a shorter one rests at its end. */
  seek(time) {
    this.time = Math.min(Math.max(0, time), this.length);
    for (const element of this.elements) {
      if (Number.isFinite(element.duration)) element.currentTime = Math.min(this.time, element.duration);
    }
    this.onTime(this.time, this.length);
  }

  setRate(rate) {
    this.rate = rate;
    for (const element of this.elements) element.playbackRate = rate;
  }

  stop() {
    this.playing = false;
    cancelAnimationFrame(this.frame);
    for (const element of this.elements) element.pause();
    this.elements = [];
  }

  start(element) {
    element.playbackRate = this.rate;
    element.currentTime = Math.min(this.time, element.duration || 0);
    element.play().catch(() => {}); // a player that cannot play says why by itself
  }

  tick(now) {
    if (!this.playing) return;
    this.time += ((now - this.last) / 1000) * this.rate;
    this.last = now;
    if (this.time >= this.length) {
      this.time = 0;
      for (const element of this.elements) this.start(element);
    }
    for (const element of this.elements) this.mend(element);
    this.onTime(this.time, this.length);
    this.frame = requestAnimationFrame((later) => this.tick(later));
  }

  mend(element) {
    if (!Number.isFinite(element.duration) || element.seeking || element.readyState < 2) return;
    if (this.time < element.duration && Math.abs(element.currentTime - this.time) > DRIFT * Math.max(1, this.rate)) {
      element.currentTime = this.time;
    }
  }
}
