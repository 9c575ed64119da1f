// Requests that follow the mouse: one is under way, and of those that wait only the latest counts.

export class Follower {
  constructor(send, show) {
    this.send = send;
    this.show = show;
    this.next = null;
    this.busy = false;
    this.turn = 0;
    this.number = 0;
  }

  ask(request) {
    this.next = { ...request, number: ++this.number };
    if (!this.busy) this.run(this.turn);
  }

  // What is still under way will not be shown.
  stop() {
    this.turn++;
    this.next = null;
    this.busy = false;
  }

  async run(turn) {
    this.busy = true;
    while (this.next && turn === this.turn) {
      const request = this.next;
      this.next = null;
      const answer = await this.send(request);
      if (answer && turn === this.turn) this.show(answer);
    }
    if (turn === this.turn) this.busy = false;
  }
}
